// What a person waits for on a list of a thousand machines, in Chromium: first paint of rows, then scrolling to the end.
// node tests/bench/list.mjs ADDRESS
import { createRequire } from 'node:module'

const { chromium } = createRequire(new URL('../../ui/package.json', import.meta.url))('playwright-core')
const address = process.argv[2]
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--no-first-run'],
})
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } })
await page.goto(address)
const machines = new URL('/machines', address).href

const first = []
for (let run = 0; run < 5; run++) {
  await page.goto('about:blank')
  await page.goto(machines, { waitUntil: 'commit' })
  await page.getByText('machine-0000', { exact: true }).first().waitFor()
  first.push(await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => done(performance.now())))))
}
first.sort((a, b) => a - b)
console.log(`first rows painted: median ${first[2].toFixed(0)} ms after navigation (5 runs, ${first.map((t) => t.toFixed(0)).join(' ')})`)

const frames = await page.evaluate(async () => {
  const scroller = [...document.querySelectorAll('*')].find(
    (e) => e.scrollHeight > e.clientHeight + 2000 && /auto|scroll/.test(getComputedStyle(e).overflowY),
  ) ?? document.scrollingElement
  const gaps = []
  let last = performance.now()
  const step = scroller.scrollHeight / 240
  for (let n = 0; n < 240; n++) {
    scroller.scrollTop += step
    await new Promise((done) => requestAnimationFrame(done))
    const now = performance.now()
    gaps.push(now - last)
    last = now
  }
  return { gaps, end: scroller.scrollTop, height: scroller.scrollHeight }
})
const sorted = frames.gaps.toSorted((a, b) => a - b)
console.log(
  `scrolling ${frames.height} px in 240 steps: frame p50 ${sorted[120].toFixed(1)} ms, p95 ${sorted[228].toFixed(1)} ms, ` +
    `worst ${sorted[239].toFixed(1)} ms; ${await page.evaluate(() => document.querySelectorAll('*').length)} elements in the page`,
)
await browser.close()
