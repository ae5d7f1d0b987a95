/** Stops the orphans of an `up` that was killed, identified by recorded pid and start time. */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { z } from 'zod'
import { isAlive, type ProcessIdentity } from '../../../config/process-identity.ts'
import { writePrivate } from './state-directory.ts'

const SUFFIX = '.process.json'
const Identity = z.object({ pid: z.int().positive(), startTime: z.string() })

/** Records a child for the next start. */
export function recordProcess(runDirectory: string, name: string, identity: ProcessIdentity): void {
  writePrivate(path.join(runDirectory, name + SUFFIX), { pid: identity.pid, startTime: identity.startTime })
}

export function forgetProcess(runDirectory: string, name: string): void {
  rmSync(path.join(runDirectory, name + SUFFIX), { force: true })
}

/** Stops every recorded process that still runs; SIGKILL after the deadline. Resolves to their names. */
export async function stopLeftovers(
  runDirectory: string,
  deadlineMs: number,
  logger: Logger,
): Promise<string[]> {
  const names = readdirSync(runDirectory)
    .filter((file) => file.endsWith(SUFFIX))
    .map((file) => file.slice(0, -SUFFIX.length))
  const stopped = await Promise.all(
    names.map(async (name) => {
      const identity = readIdentity(path.join(runDirectory, name + SUFFIX))
      const wasAlive = identity !== undefined && isAlive(identity)
      if (wasAlive) {
        logger.warn({ process: identity.pid }, `stopping the ${name} that an earlier "howdah up" left behind`)
        await stopProcess(identity, deadlineMs)
      }
      forgetProcess(runDirectory, name)
      return wasAlive ? [name] : []
    }),
  )
  return stopped.flat()
}

/** SIGTERM, then SIGKILL when the process is still there after the deadline. */
export async function stopProcess(
  identity: ProcessIdentity,
  deadlineMs: number,
  forceStop?: AbortSignal,
): Promise<void> {
  signalProcess(identity, 'SIGTERM')
  const deadline = Date.now() + deadlineMs
  while (isAlive(identity) && Date.now() < deadline && forceStop?.aborted !== true) await sleep(50)
  signalProcess(identity, 'SIGKILL')
  const end = Date.now() + 5000
  while (isAlive(identity) && Date.now() < end) await sleep(20)
}

function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isAlive(identity)) return
  try {
    process.kill(identity.pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function readIdentity(file: string): ProcessIdentity | undefined {
  try {
    return Identity.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    // Truncated by a crash: the process that it identified cannot be found.
    return undefined
  }
}
