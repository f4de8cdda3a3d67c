// The main job, as a person does it: make a machine in the wizard, see its screen, type a command, see its effect from
// outside, shut it down, and find state, log and database in agreement.
//
//   node tests/e2e/journey.mjs window|chromium [image] [iso] [uefi]
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { Browser, by, Window } from './pages.mjs'
import { freePort, guest, http, program_, until, World } from './world.mjs'

const kinds = {
  image: { source: 'Use a disk image', label: 'Disk image', file: 'disk.qcow2', firmware: undefined },
  iso: { source: 'Install from an ISO', label: 'ISO file', file: 'guest.iso', firmware: undefined },
  uefi: { source: 'Use a disk image', label: 'Disk image', file: 'disk.qcow2', firmware: 'UEFI' },
}

const [where = 'chromium', ...wanted] = process.argv.slice(2)
const world = new World()
let page
try {
  page = where === 'window' ? await openWindow() : await openBrowser()
  for (const kind of wanted.length > 0 ? wanted : Object.keys(kinds)) await travel(kind)
  await page.close()
  console.log(`${where}: all well`)
} catch (error) {
  await page?.shot('failed').catch(() => {})
  console.error(error)
  process.exitCode = 1
} finally {
  await page?.close().catch(() => {})
  await world.end()
}

async function openWindow() {
  await world.display()
  return await Window.open(world, await freePort())
}

async function openBrowser() {
  const serve = world.start(process.env.VOIDVM_E2E_CLI ?? program_('voidvm'), ['serve', '--listen', '127.0.0.1:0', '--print-url'])
  const address = await until('the address of serve', 20, () => /http:\/\/\S+token=\S+/.exec(serve.said)?.[0])
  return await Browser.open(address)
}

async function travel(kind) {
  const { source, label, file, firmware } = kinds[kind]
  const name = `e2e-${kind}`
  const port = await freePort()
  const began = Date.now()
  const step = (text) => console.log(`${where} ${kind}: ${text} (${((Date.now() - began) / 1000).toFixed(1)} s)`)

  await page.click(by.tab('Machines'))
  await page.click(by.link('New machine') + '|' + by.button('New machine'))
  await page.choose(source)
  await page.fill(by.field(label), join(guest, file))
  await page.click(by.button('Next'))
  await page.fill(by.field('Name'), name)
  await page.click(by.step('Firmware and network'))
  if (firmware) await page.choose(firmware)
  await page.click(`//button[contains(normalize-space(.),'HTTP') and contains(normalize-space(.),'80')]`)
  await page.fill(by.inLabel('Host port'), `${port}`)
  await page.click(by.button('Next'))
  await page.shot(`${kind}-review`)
  await page.click(by.button('Create and start'))
  step('created')

  await page.sees(by.liveScreen, 60)
  const [vm] = (await world.voidvm('list')).filter((vm) => vm.name === name)
  assert.equal(vm.state, 'running')
  assert.equal(vm.spec.firmware, firmware ? 'uefi' : 'bios')
  await until('the guest to be ready', 120, async () => (await world.serial(vm.id)).includes('GUEST-READY'))
  await until('the guest to answer over HTTP', 60, () => http(port, '/cgi-bin/info'))
  step('guest ready')
  await until('a picture on the canvas', 30, () =>
    page.run(`
      const canvas = document.querySelector('canvas[data-console-screen]')
      const copy = document.createElement('canvas')
      copy.width = canvas.width
      copy.height = canvas.height
      const context = copy.getContext('2d')
      context.drawImage(canvas, 0, 0)
      const { data } = context.getImageData(0, 0, copy.width, copy.height)
      let lit = 0
      for (let at = 0; at < data.length; at += 4) if (data[at] + data[at + 1] + data[at + 2] > 300) lit++
      return lit > 100
    `),
  )
  await page.shot(`${kind}-console`)

  // What is typed on the console is seen from outside: the guest's own web server tells its host name.
  await page.click(by.screen)
  await page.keys(`\nhostname typed-${kind}\n`)
  const info = await until('the typed command to take effect', 30, async () => {
    const text = await http(port, '/cgi-bin/info')
    return text.includes(`host=typed-${kind}`) ? text : undefined
  })
  step(`typed; outside: ${info.trim()}`)
  await page.shot(`${kind}-typed`)

  await page.click(by.button('Shut down'))
  await page.sees(by.button('Start'), 60)
  const [after] = (await world.voidvm('list')).filter((vm) => vm.name === name)
  assert.equal(after.state, 'stopped')
  assert.equal(after.run, null)
  assert.ok((await world.serial(vm.id)).includes('GUEST-POWEROFF'), 'the guest was asked, not killed')
  const [row] = await world.rows(`select state from vms where name = '${name}'`)
  assert.equal(row.state, 'stopped')
  const operations = await world.rows(
    `select kind, status from operations where subject = '${name}' order by id`,
  )
  assert.deepEqual(
    operations.map(({ kind, status }) => `${kind} ${status}`),
    ['create succeeded', 'start succeeded', 'stop succeeded'],
  )
  await page.click(by.tab('Log'))
  await page.sees(`//*[contains(normalize-space(.),'Shut down')]`)
  await page.shot(`${kind}-log`)
  step('stopped; state, log and database agree')
}
