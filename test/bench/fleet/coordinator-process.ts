/** Owns what the bench measures of a coordinator: a process of its own, as in production. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { startCoordinator } from '../../support/coordinator-process.ts'
import { poll } from '../../support/poll.ts'
import { processorSeconds } from '../machine.ts'

const PROBE = fileURLToPath(new URL('event-loop-probe.ts', import.meta.url))
const ANSWER_MS = 60_000

export interface MeasuredCoordinator {
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

/** @param config of the coordinator's configuration file. @throws Error when it ends before it is ready */
export async function startMeasured(
  directory: string,
  config: { readonly broker: object; readonly store: object },
): Promise<MeasuredCoordinator> {
  const delayFile = path.join(directory, 'delay')
  const begun = performance.now()
  const { process: child, log } = await startCoordinator(
    directory,
    'coordinator',
    { log: { level: 'warn' }, ...config },
    { NODE_OPTIONS: `--import=${PROBE}`, HOWDAH_BENCH_DELAY: delayFile },
  )
  const startSeconds = (performance.now() - begun) / 1000
  const { pid } = child
  if (pid === undefined || child.exitCode !== null) {
    throw new Error(`the coordinator ended: ${log.slice(-10).join('\n')}`)
  }
  return {
    startSeconds,
    processorSeconds: () => processorSeconds(pid),
    peakMib: () =>
      Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024,
    async eventLoopDelay() {
      await rm(delayFile, { force: true })
      child.kill('SIGUSR2')
      const text = await poll(() => readFile(delayFile, 'utf8').catch(() => undefined), {
        deadlineMs: ANSWER_MS,
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
