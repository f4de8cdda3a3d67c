// The page as a person meets it, in the real window (WebDriver) and in Chromium: found by words, used by mouse and keyboard.
import { createRequire } from 'node:module'
import { writeFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { program_, root, until } from './world.mjs'

const require = createRequire(join(root, 'ui/package.json'))
const shots = join(root, 'screenshots/e2e')

const quote = (text) => `'${text}'`
const says = (text) => `normalize-space(.)=${quote(text)}`

/** What is on a page, by its words, as XPath. */
export const by = {
  button: (name) => `//button[(${says(name)} or @aria-label=${quote(name)}) and not(@disabled)]`,
  link: (name) => `//a[${says(name)}]`,
  tab: (name) => `//nav//a[starts-with(normalize-space(.),${quote(name)})]`,
  choice: (name) => `//label[input[@type='radio']][.//span[${says(name)}]]`,
  field: (label) => `//input[@id=//label[starts-with(normalize-space(.),${quote(label)})]/@for]`,
  inLabel: (label) => `//label[span[${says(label)}]]//input`,
  step: (name) => `//nav//button[.//span[${says(name)}]]`,
  text: (text) => `//*[${says(text)} and not(self::script)]`,
  screen: `//canvas[@data-console-screen]`,
  liveScreen: `//canvas[@data-console-screen and @data-state='live' and not(contains(@class,'blank'))]`,
}

/** The real window, through tauri-driver and WebKitWebDriver. */
export class Window {
  static async open(world, port) {
    const { Builder, Capabilities } = require('selenium-webdriver')
    const application = process.env.VOIDVM_E2E_APP ?? program_('voidvm-desktop')
    const driver = world.start(process.env.TAURI_DRIVER ?? 'tauri-driver', ['--port', `${port}`, '--native-port', `${port + 1}`])
    await until('tauri-driver', 10, async () => (await fetch(`http://127.0.0.1:${port}/status`)).ok)
    const page = new Window()
    const wants = new Capabilities().set('tauri:options', { application }).set('browserName', 'wry')
    try {
      page.driver = await new Builder().usingServer(`http://127.0.0.1:${port}/`).withCapabilities(wants).build()
    } catch (error) {
      throw new Error(`no window: ${error.message}\n${driver.said}`)
    }
    page.lib = require('selenium-webdriver')
    return page
  }

  name = 'window'

  #find(xpath, seconds = 15) {
    const { By } = this.lib
    return until(xpath, seconds, async () => {
      for (const element of await this.driver.findElements(By.xpath(xpath)))
        if (await element.isDisplayed()) return element
      return undefined
    })
  }

  async sees(xpath, seconds) {
    await this.#find(xpath, seconds)
  }

  async click(xpath, seconds) {
    const element = await this.#find(xpath, seconds)
    await this.driver.executeScript('arguments[0].scrollIntoView({ block: "center" })', element)
    await element.click()
  }

  /** Radio buttons are drawn by their labels. */
  async choose(name) {
    await this.click(by.choice(name))
  }

  async fill(xpath, text) {
    const { Key } = this.lib
    const element = await this.#find(xpath)
    await element.sendKeys(Key.chord(Key.CONTROL, 'a'), Key.DELETE)
    await element.sendKeys(text)
  }

  async keys(text) {
    const { Key } = this.lib
    for (const key of text) await this.driver.actions().sendKeys(key === '\n' ? Key.ENTER : key).perform()
  }

  async run(script) {
    return await this.driver.executeScript(script)
  }

  async shot(name) {
    mkdirSync(shots, { recursive: true })
    writeFileSync(join(shots, `${this.name}-${name}.png`), await this.driver.takeScreenshot(), 'base64')
  }

  async close() {
    await this.driver.quit().catch(() => {})
  }
}

/** Chromium on the local API. */
export class Browser {
  static async open(address) {
    const { chromium } = require('playwright-core')
    const page = new Browser()
    page.browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--no-first-run'],
    })
    page.page = await page.browser.newPage({ viewport: { width: 1280, height: 800 } })
    page.wrong = []
    page.page.on('pageerror', (error) => page.wrong.push(error.message))
    page.page.on('console', (message) => message.type() === 'error' && page.wrong.push(message.text()))
    await page.page.goto(address)
    return page
  }

  name = 'chromium'

  async sees(xpath, seconds = 15) {
    await this.page.locator(`xpath=${xpath}`).filter({ visible: true }).first().waitFor({ timeout: seconds * 1000 })
  }

  async click(xpath, seconds = 15) {
    await this.page.locator(`xpath=${xpath}`).filter({ visible: true }).first().click({ timeout: seconds * 1000 })
  }

  async choose(name) {
    await this.click(by.choice(name))
  }

  async fill(xpath, text) {
    await this.page.locator(`xpath=${xpath}`).filter({ visible: true }).first().fill(text)
  }

  async keys(text) {
    for (const key of text) await this.page.keyboard.press(key === '\n' ? 'Enter' : key === ' ' ? 'Space' : key)
  }

  async run(script) {
    return await this.page.evaluate(new Function(script))
  }

  async shot(name) {
    mkdirSync(shots, { recursive: true })
    await this.page.screenshot({ path: join(shots, `${this.name}-${name}.png`) })
  }

  async close() {
    await this.browser.close()
    if (this.wrong.length > 0) throw new Error(`the page said: ${this.wrong.join('\n')}`)
  }
}
