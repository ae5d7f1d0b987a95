/** `howdah up` as a process, with its private broker and the real roles. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { cleanEnvironment } from '../support/fleet-roles.ts'

const LAUNCHER = path.resolve(import.meta.dirname, '../../bin/howdah')
const DEADLINE_MS = 120_000

describe('howdah up, running', function () {
  this.timeout(2 * DEADLINE_MS)
  let directory: string
  let state: string
  let child: ChildProcess
  const output = { stdout: '', stderr: '' }

  async function until(condition: () => boolean, what: string): Promise<void> {
    const deadline = Date.now() + DEADLINE_MS
    while (!condition()) {
      if (Date.now() > deadline) throw new Error(`not so in time: ${what}\n${output.stdout}${output.stderr}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  function environment(): NodeJS.ProcessEnv {
    return {
      ...cleanEnvironment(),
      HOWDAH_MOUNT_ROOT: path.join(directory, 'mounts'),
      HOWDAH_CACHE_ROOT: path.join(directory, 'caches'),
    }
  }

  function start(...flags: string[]) {
    output.stdout = ''
    output.stderr = ''
    child = spawn(LAUNCHER, ['up', '--state', state, '--json', ...flags], { cwd: '/', env: environment() })
    child.stdout?.on('data', (data) => {
      output.stdout += data
    })
    child.stderr?.on('data', (data) => {
      output.stderr += data
    })
  }

  const hasEnded = () => child.exitCode !== null || child.signalCode !== null

  function client(...args: string[]) {
    const { status, stdout, stderr } = spawnSync(LAUNCHER, [...args, '--state', state], {
      cwd: '/',
      env: environment(),
      encoding: 'utf8',
      timeout: DEADLINE_MS,
    })
    return { status, stdout, stderr }
  }

  const processOf = (role: string): number =>
    JSON.parse(readFileSync(path.join(state, 'run', `${role}.process.json`), 'utf8')).pid

  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'howdah-up-'))
    state = path.join(directory, 'state')
    mkdirSync(path.join(directory, 'repository'))
  })

  after(async () => {
    if (!hasEnded()) child.kill('SIGTERM')
    await until(hasEnded, 'up has ended')
    // After a failure there may be roles, or a broker, of an `up` that was killed.
    for (const pid of processesOf(directory)) process.kill(pid, 'SIGKILL')
    await until(() => processesOf(directory).length === 0, 'nothing is left')
    rmSync(directory, { recursive: true })
  })

  it('prints one line with broker and state directory when it is ready', async () => {
    start('--repository', `demo=basebackup:${path.join(directory, 'repository')}`)
    await until(() => output.stdout.includes('\n') || hasEnded(), 'it is ready')
    const ready = JSON.parse(output.stdout)
    expect(ready).to.include({ ready: true, state })
    expect(ready.broker).to.match(/^amqp:\/\/127\.0\.0\.1:\d+/)
    const { password } = new URL(JSON.parse(readFileSync(path.join(state, 'up.json'), 'utf8')).broker)
    expect(password).not.to.equal('')
    expect(output.stdout + output.stderr).not.to.include(password)
  })

  it('is found by clients through its state directory', () => {
    const { status, stdout } = client('agents', '--json')
    expect(status).to.equal(0)
    const { agents } = JSON.parse(stdout) as { agents: { kind: string; name: string; online: boolean }[] }
    expect(agents.map(({ kind, name, online }) => [kind, name, online])).to.have.deep.members([
      ['mount', 'local', true],
      ['target', 'local', true],
    ])
  })

  it('answers an impossible publish with the reason', () => {
    const { status, stdout } = client(
      'publish',
      '--repository',
      'x',
      '--instance',
      'i',
      '--target',
      'local',
      '--json',
    )
    expect(status).to.equal(1)
    expect(JSON.parse(stdout).error).to.include({ code: 'unknown_repository', field: 'repository' })
  })

  it('refuses a second "howdah up" with the same state directory', () => {
    const { status, stderr } = client('up')
    expect(status).to.equal(1)
    expect(stderr).to.include(`process ${child.pid}`)
  })

  it('restarts a role that was killed', async () => {
    const killed = processOf('coordinator')
    process.kill(killed, 'SIGKILL')
    await until(() => output.stderr.includes('coordinator died (SIGKILL)'), 'its death is reported')
    await until(
      () =>
        existsSync(path.join(state, 'run/coordinator.process.json')) && processOf('coordinator') !== killed,
      'it runs again',
    )
    expect(client('sessions').status).to.equal(0)
  })

  it('starts again after it was killed, and serves the same repositories', async () => {
    child.kill('SIGKILL')
    await until(hasEnded, 'it is gone')
    expect(client('sessions').stderr).to.include('is gone; start it again')
    start()
    await until(() => output.stdout.includes('\n') || hasEnded(), 'the next one is ready')
    expect(output.stderr).to.include('left behind: coordinator, mount-agent, target-agent')
    const { repositories } = JSON.parse(client('backups', '--json').stdout)
    expect(repositories).to.have.length(1)
  })

  it('stops everything on SIGTERM, and removes up.json', async () => {
    const pids = ['coordinator', 'mount-agent', 'target-agent'].map(processOf)
    child.kill('SIGTERM')
    await until(hasEnded, 'it has ended')
    expect(child.exitCode).to.equal(0)
    expect(pids.filter((pid) => existsSync(`/proc/${pid}`))).to.deep.equal([])
    expect(existsSync(path.join(state, 'up.json'))).to.equal(false)
  })

  it('names the component that does not start and the reason, and stops the others', async () => {
    start('--broker', 'amqp://user:secret@127.0.0.1:1')
    await until(hasEnded, 'it gives up')
    expect(child.exitCode).to.equal(1)
    expect(output.stderr).to.include('the connection to the broker does not start')
    expect(output.stdout + output.stderr).not.to.include('secret')
    expect(existsSync(path.join(state, 'run/coordinator.process.json'))).to.equal(false)
  })
})

/** Processes whose command line names a directory. */
function processesOf(directory: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory)
      } catch {
        return false
      }
    })
    .map(Number)
}
