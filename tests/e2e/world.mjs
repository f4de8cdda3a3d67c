// What a journey runs in: directories of its own, a display, programs that end with it, and looks at the guest from outside.
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createServer } from 'node:net'
import { promisify } from 'node:util'

export const root = resolve(import.meta.dirname, '../..')
export const guest = process.env.VOIDVM_TEST_GUEST ?? join(root, 'target/guest')
const run = promisify(execFile)

/** Asks until there is an answer; a look, not a wait for time to pass. */
export async function until(what, seconds, ask) {
  const end = Date.now() + seconds * 1000
  let last
  for (;;) {
    try {
      const answer = await ask()
      if (answer) return answer
    } catch (error) {
      last = error
    }
    if (Date.now() > end) throw new Error(`after ${seconds} s still not: ${what}${last ? ` (${last.message})` : ''}`)
    await new Promise((done) => setTimeout(done, 50))
  }
}

/** A TCP port nobody listens on now. */
export async function freePort() {
  const server = createServer()
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address()
  await new Promise((done) => server.close(done))
  return port
}

/** Directories of a user who never ran voidVM, and the programs started in them. */
export class World {
  dir = mkdtempSync(join(tmpdir(), 'vve-'))
  #children = []

  constructor() {
    for (const name of ['data', 'config', 'state', 'run']) mkdirSync(join(this.dir, name), { mode: 0o700 })
    this.env = {
      ...process.env,
      XDG_DATA_HOME: join(this.dir, 'data'),
      XDG_CONFIG_HOME: join(this.dir, 'config'),
      XDG_STATE_HOME: join(this.dir, 'state'),
      XDG_RUNTIME_DIR: join(this.dir, 'run'),
      WEBKIT_DISABLE_DMABUF_RENDERER: '1',
      VOIDVM_POOL_FLOOR: '0',
      LANG: 'C.UTF-8',
    }
    delete this.env.DISPLAY
    delete this.env.DBUS_SESSION_BUS_ADDRESS
  }

  data(...names) {
    return join(this.dir, 'data/voidvm', ...names)
  }

  /** Starts a program that ends with this world. */
  start(command, args) {
    const child = spawn(command, args, { env: this.env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    child.said = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (child.said += text))
    child.on('error', (error) => (child.said += error.message))
    this.#children.push(child)
    return child
  }

  /** The `voidvm` command in this world; its JSON. */
  async voidvm(...args) {
    const program = process.env.VOIDVM_E2E_CLI ?? program_('voidvm')
    const { stdout } = await run(program, ['--json', ...args], { env: this.env })
    return stdout.trim() === '' ? undefined : JSON.parse(stdout)
  }

  /** Rows of the store, read by another program than ours. */
  async rows(query) {
    const { stdout } = await run('sqlite3', ['-json', '-readonly', this.data('voidvm.db'), query])
    return stdout.trim() === '' ? [] : JSON.parse(stdout)
  }

  /** What the guest said on its serial port. */
  async serial(id) {
    const { text } = await this.voidvm('logs', id, '--log', 'serial')
    return text
  }

  /** A display with a window manager and a session bus. */
  async display() {
    let n = 99
    while (existsSync(`/tmp/.X11-unix/X${n}`)) n++
    this.start('Xvfb', [`:${n}`, '-screen', '0', '1280x800x24', '-nolisten', 'tcp'])
    await until('a display', 10, () => existsSync(`/tmp/.X11-unix/X${n}`))
    this.env.DISPLAY = `:${n}`
    const bus = this.start('dbus-daemon', ['--session', '--nofork', '--print-address=1'])
    this.env.DBUS_SESSION_BUS_ADDRESS = await until('a bus', 10, () => bus.said.trim())
    this.start('openbox', [])
  }

  /** Ends everything that was started, machines as well, and removes the directories. */
  async end() {
    const machines = await this.voidvm('list').catch(() => [])
    for (const vm of machines) if (vm.run) await this.voidvm('stop', vm.id, '--force').catch(() => {})
    for (const child of this.#children.reverse()) {
      try {
        process.kill(-child.pid, 'SIGTERM')
      } catch {
        // It has ended already.
      }
    }
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }
}

/** A program of this checkout, release before debug. */
export function program_(name) {
  for (const profile of ['release', 'debug']) {
    const path = join(root, 'target', profile, name)
    if (existsSync(path)) return path
  }
  throw new Error(`${name} is not built`)
}

/** The guest's own web server, through the forwarded port. */
export async function http(port, path) {
  const reply = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(5000) })
  return await reply.text()
}
