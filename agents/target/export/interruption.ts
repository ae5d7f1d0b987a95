/** Tells an export that failed by itself from one whose instance or mount server went away. */
import { setTimeout as delay } from 'node:timers/promises'
import { findMountProcess } from '../mount-process/agent/mount-process.ts'
import { findInstance } from '../postgres/instance.ts'
import type { PublishedSession } from '../session/published-session.ts'

/** How long the coordinator may take to learn that the instance is gone, and to supersede the step. Milliseconds. */
const SUPERSESSION_MS = 30_000

/**
 * Returns at once while the instance runs. Where it is gone the dump has not failed: the coordinator restores the instance
 * and repeats the export, so this waits for it to supersede the step, within a deadline.
 * @throws the signal's reason when the step is superseded
 */
export async function awaitSupersession(session: PublishedSession, signal: AbortSignal): Promise<void> {
  if (await findInstance(session)) return
  await delay(SUPERSESSION_MS, undefined, { signal }).catch(() => signal.throwIfAborted())
}

/** The number of reads of the backup that have failed so far because the mount server was unreachable. */
export async function failedReads({ cachePath }: PublishedSession): Promise<number> {
  const mount = await findMountProcess(cachePath)
  const status = await mount?.status().catch(() => undefined)
  return status?.failedReadsEver ?? 0
}
