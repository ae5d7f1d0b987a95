/** Owns a coordinator that the bench measures: a process of its own, as in production. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, readFileSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { cleanEnvironment, LAUNCHER } from '../../support/fleet-roles.ts'
import { poll } from '../../support/poll.ts'
import { processorSeconds } from '../machine.ts'

const PROBE = fileURLToPath(new URL('event-loop-probe.ts', import.meta.url))
const READY_MS = 60_000

export interface CoordinatorProcess {
  /** Seconds from the start of the process until it consumes. */
  readonly startSeconds: number
  /** Processor time so far, seconds. */
  processorSeconds(): number
  /** Largest resident memory so far, MiB. */
  peakMib(): number
  /** Percentile 99 of the event loop's delay since the last call, ms. */
  eventLoopDelay(): Promise<number>
  stop(): Promise<void>
}

/** @param config of the coordinator's configuration file */
export async function startCoordinator(directory: string, config: object): Promise<CoordinatorProcess> {
  const file = path.join(directory, 'coordinator.json')
  const delayFile = path.join(directory, 'delay')
  const log = path.join(directory, 'coordinator.log')
  await writeFile(file, JSON.stringify({ log: { level: 'warn' }, ...config }), { mode: 0o600 })
  const begun = performance.now()
  const child = spawn(LAUNCHER, ['coordinator', '--config', file, '--json'], {
    cwd: '/',
    env: { ...cleanEnvironment(), NODE_OPTIONS: `--import=${PROBE}`, HOWDAH_BENCH_DELAY: delayFile },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child.stderr.on('data', (chunk: Buffer) => appendFileSync(log, chunk))
  await untilReady(child, log)
  const startSeconds = (performance.now() - begun) / 1000
  const pid = child.pid ?? 0
  return {
    startSeconds,
    processorSeconds: () => processorSeconds(pid),
    peakMib: () =>
      Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024,
    async eventLoopDelay() {
      await rm(delayFile, { force: true })
      child.kill('SIGUSR2')
      const text = await poll(() => readFile(delayFile, 'utf8').catch(() => undefined), {
        deadlineMs: READY_MS,
        failure: () => 'the coordinator did not say how long its event loop was delayed',
      })
      return Number(text)
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGTERM')
      await exited
    },
  }
}

async function untilReady(child: ChildProcess, log: string): Promise<void> {
  const ended = once(child, 'exit').then(() => {
    throw new Error(`the coordinator ended: ${readFileSync(log, 'utf8').slice(-2000)}`)
  })
  ended.catch(() => undefined)
  const late = AbortSignal.timeout(READY_MS)
  const timeout = once(late, 'abort').then(() => Promise.reject(new Error('the coordinator is not ready')))
  timeout.catch(() => undefined)
  await Promise.race([once(child.stdout ?? child, 'data'), ended, timeout])
}
