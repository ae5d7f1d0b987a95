/** The parts of `howdah up` that need no broker: lock, orphans, supervision, logs. */
import { spawn } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { identify, isAlive } from '../../config/process-identity.ts'
import { recordProcess, stopLeftovers } from '../../coordinator/cli/up/leftovers.ts'
import { followLog, type LogLine, logLine } from '../../coordinator/cli/up/log-file.ts'
import { createRepeatFilter } from '../../coordinator/cli/up/repeat-filter.ts'
import { type RoleProcess, startRole } from '../../coordinator/cli/up/role-process.ts'
import { openStateDirectory } from '../../coordinator/cli/up/state-directory.ts'
import { HowdahError } from '../../messages/errors.ts'
import { until } from './run.ts'

const logger = pino({ level: 'silent' })
const patient = new AbortController().signal

describe('howdah up, its parts', function () {
  this.timeout(20_000)
  let directory: string
  let undo: (() => Promise<void> | void)[]

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'howdah-up-'))
    undo = [() => rmSync(directory, { recursive: true })]
  })
  afterEach(async () => {
    for (const step of undo.reverse()) await step()
  })

  it('refuses a state directory that another "howdah up" uses, and names its process', () => {
    const first = openStateDirectory(directory)
    try {
      expect(() => openStateDirectory(directory)).to.throw(HowdahError, `process ${process.pid}`)
    } finally {
      first.release()
    }
    openStateDirectory(directory).release()
  })

  it('can use the state directory of a "howdah up" that was killed', async () => {
    const script = `
      import { openStateDirectory } from ${JSON.stringify(path.resolve('coordinator/cli/up/state-directory.ts'))}
      openStateDirectory(${JSON.stringify(directory)})
      console.log('locked')
      setInterval(() => {}, 1000)`
    const holder = spawn(process.execPath, [
      '--disable-warning=ExperimentalWarning',
      '--input-type=module',
      '-e',
      script,
    ])
    undo.push(() => void holder.kill('SIGKILL'))
    let output = ''
    holder.stdout.on('data', (data) => {
      output += data
    })
    await until(() => output.includes('locked'), 'the other one has the lock')
    expect(() => openStateDirectory(directory)).to.throw(HowdahError, `process ${holder.pid}`)
    holder.kill('SIGKILL')
    await until(() => holder.signalCode !== null, 'the other one is gone')
    openStateDirectory(directory).release()
  })

  it('announces its broker in a file that only its owner can read, and removes it at the end', () => {
    const state = openStateDirectory(directory)
    state.announce('amqp://user:secret@127.0.0.1')
    const file = path.join(directory, 'up.json')
    expect(statSync(file).mode & 0o777).to.equal(0o600)
    expect(statSync(directory).mode & 0o777).to.equal(0o700)
    expect(JSON.parse(readFileSync(file, 'utf8'))).to.include({ pid: process.pid })
    state.release()
    expect(existsSync(file)).to.equal(false)
  })

  it('stops the orphans of an earlier "howdah up", but no process that has got the pid of one', async () => {
    const leftover = spawn('sleep', ['300'])
    const other = spawn('sleep', ['300'])
    undo.push(
      () => void leftover.kill('SIGKILL'),
      () => void other.kill('SIGKILL'),
    )
    const identity = identify(leftover.pid ?? 0)
    if (identity === undefined) throw new Error('sleep does not run')
    recordProcess(directory, 'coordinator', identity)
    recordProcess(directory, 'mount-agent', { pid: other.pid ?? 0, startTime: '1' })
    expect(await stopLeftovers(directory, 5000, logger)).to.deep.equal(['coordinator'])
    expect(isAlive(identity)).to.equal(false)
    expect(identify(other.pid ?? 0)).not.to.equal(undefined)
    expect(await stopLeftovers(directory, 5000, logger)).to.deep.equal([])
  })

  describe('a role', () => {
    let notices: string[]

    function start(script: string): RoleProcess {
      openStateDirectory(directory).release()
      notices = []
      const launcher = path.join(directory, 'launcher')
      writeFileSync(launcher, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
      const role = startRole({
        role: 'coordinator',
        launcher,
        configFile: path.join(directory, 'x.json'),
        stateDirectory: directory,
        env: process.env,
        logger,
        onNotice: (text) => notices.push(text),
      })
      undo.push(() => role.stop(patient))
      return role
    }

    const runs = () => {
      const file = path.join(directory, 'runs')
      return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []
    }

    it('that dies is restarted, and its death is reported', async () => {
      const role = start('echo $$ >> runs; exec sleep 300')
      role.markReady()
      await until(() => runs().length === 1, 'it runs')
      process.kill(Number(runs()[0]), 'SIGKILL')
      await until(() => runs().length === 2, 'it runs again')
      expect(notices.join('\n')).to.match(/coordinator died \(SIGKILL\); started again in \d\.\d s/)
      await role.stop(patient)
      expect(identify(Number(runs()[1]))).to.equal(undefined)
      expect(existsSync(path.join(directory, 'run/coordinator.process.json'))).to.equal(false)
    })

    it('with a wrong configuration is not restarted; the reason is its last output', async () => {
      const role = start('echo run >> runs; echo "broker.url: must be a URL" >&2; exit 2')
      await until(() => role.startFailure() !== undefined, 'it is given up')
      expect(role.startFailure()).to.equal('exit status 2: broker.url: must be a URL')
      expect(runs()).to.have.length(1)
    })

    it('that keeps dying before "howdah up" is ready is given up', async () => {
      const role = start('echo run >> runs; exit 1')
      await until(() => role.startFailure() !== undefined, 'it is given up')
      expect(runs()).to.have.length(3)
    })

    it('that ignores SIGTERM is killed on the second Ctrl-C', async () => {
      const role = start(`trap '' TERM; echo $$ >> runs; while :; do sleep 0.1; done`)
      await until(() => runs().length === 1, 'it runs')
      await role.stop(AbortSignal.abort())
      expect(identify(Number(runs()[0]))).to.equal(undefined)
    })

    it('has its warnings shown, and nothing less severe', async () => {
      start(
        `echo '{"level":30,"msg":"fine"}' >&2; echo '{"level":40,"msg":"disk is filling"}' >&2; exec sleep 300`,
      )
      await until(() => notices.length > 0, 'the warning is shown')
      expect(notices).to.deep.equal(['coordinator: disk is filling'])
    })
  })

  it('shows a warning that repeats once a minute', () => {
    let now = 0
    const isDue = createRepeatFilter(60_000, () => now)
    expect([isDue('away'), isDue('away'), isDue('full')]).to.deep.equal([true, false, true])
    now = 59_999
    expect(isDue('away')).to.equal(false)
    now = 60_000
    expect([isDue('away'), isDue('away')]).to.deep.equal([true, false])
  })

  it('follows a log from its present end, also when a line is written in pieces', async () => {
    const file = path.join(directory, 'x.log')
    writeFileSync(file, '{"level":50,"msg":"old"}\n')
    const lines: LogLine[] = []
    const log = followLog(file, (line) => lines.push(line))
    undo.push(() => log.close())
    appendFileSync(file, '{"level":50,"msg":"b')
    log.read()
    appendFileSync(file, 'roken"}\n')
    await until(() => lines.length === 1, 'the line is read')
    expect(lines).to.deep.equal([{ level: 50, text: 'broken' }])
  })

  it('shows any line of a log as text', () => {
    expect(logLine('{"level":60,"msg":"failed","err":{"message":"no room"}}').text).to.equal(
      'failed: no room',
    )
    const step =
      '{"level":40,"session":"s-1","step":"mount","error":{"message":"no room"},"msg":"step failed"}'
    expect(logLine(step).text).to.equal('s-1: mount: step failed: no room')
    expect(logLine('Error: plain')).to.deep.equal({ level: 50, text: 'Error: plain' })
    expect(logLine('null').text).to.equal('null')
  })
})
