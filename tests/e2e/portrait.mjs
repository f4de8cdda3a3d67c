// The picture of the README, taken in the real window with real guests: node tests/e2e/portrait.mjs
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { by, Window } from './pages.mjs'
import { freePort, guest, root, until, World } from './world.mjs'

const world = new World()
let page
try {
  await world.display()
  page = await Window.open(world, await freePort())
  const image = join(guest, 'disk.qcow2')
  for (const [name, screen] of [
    ['web-01', 'uptime; ls -l /www'],
    ['db-01', 'free -m; df -h'],
    ['build-runner', 'ps | head -n 20'],
    ['router', 'ip addr'],
    ['staging', undefined],
    ['windows-test', undefined],
  ]) {
    await world.voidvm('create', name, '--image', image, '--memory', '256M')
    if (screen === undefined) continue
    const vm = await world.voidvm('start', name, '--wait')
    await until(`${name} to be ready`, 120, async () => (await world.serial(vm.vmId ?? name)).includes('GUEST-READY'))
    await world.voidvm('type', name, `clear; ${screen}\n`)
  }
  await page.click(by.tab('Machines'))
  await page.sees(by.text('router'))
  await until('live pictures of the screens', 60, () =>
    page.run(`return document.querySelectorAll('[data-vm] img').length >= 4 && [...document.querySelectorAll('[data-vm] img')].every((i) => i.complete)`),
  )
  // Thumbnails are taken anew every few seconds; the second round shows what was typed.
  await until('a second round of pictures', 30, async () => {
    globalThis.first ??= await page.run(`return [...document.querySelectorAll('[data-vm] img')].map((i) => i.src).join()`)
    return (await page.run(`return [...document.querySelectorAll('[data-vm] img')].map((i) => i.src).join()`)) !== globalThis.first
  })
  writeFileSync(join(root, 'docs/screenshot.png'), await page.driver.takeScreenshot(), 'base64')
  console.log('docs/screenshot.png')
} catch (error) {
  console.error(error)
  process.exitCode = 1
} finally {
  await page?.close()
  await world.end()
}
