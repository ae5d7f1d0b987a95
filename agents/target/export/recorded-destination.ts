/** The destination of a recorded export: what the export claims there is in its record before it is written. */
import { availableParallelism } from 'node:os'
import type { SessionChanges } from '../changes/session-changes.ts'
import type { PublishedSession } from '../session/published-session.ts'
import type { Credentials } from './destinations/credentials.ts'
import type { Destination } from './destinations/destination.ts'
import { makeDestination } from './destinations/make-destination.ts'
import { createPrograms, type Programs } from './dump/programs.ts'
import { type ExportRecord, writeExportRecord } from './record.ts'

export interface RecordedDestinationOptions {
  readonly credentials: Credentials
  readonly changes: SessionChanges
  readonly reserveBytes: number
}

/** How long the clean-up of an export may take before it is given up. Milliseconds. */
export const CLEAN_UP_MS = 30_000

/** @throws HowdahError `configuration` */
export function recordedDestination(
  { credentials, changes, reserveBytes }: RecordedDestinationOptions,
  session: PublishedSession,
  record: ExportRecord,
  databases: readonly string[],
  tools: { readonly programs: Programs; readonly signal: AbortSignal },
): Destination {
  const { id, request } = record
  const claim = {
    databases,
    claimed: () => record.claimed,
    save: async (claimed: { made: boolean; names: string[] }) => {
      record.claimed = claimed
      await writeExportRecord(session.cachePath, record)
    },
  }
  return makeDestination({
    ...{ credentials, reserveBytes, session, id, request, claim, ...tools },
    jobs: request.jobs ?? availableParallelism(),
    excludeFromChanges: (work) => changes.excludeFromChanges(session, work),
  })
}

/**
 * Removes what a record claims at the destination. Has a deadline of its own, since the caller may have been aborted.
 * @returns what was removed, in words
 */
export async function discardRecorded(
  options: RecordedDestinationOptions,
  session: PublishedSession,
  record: ExportRecord,
): Promise<string[]> {
  if (!record.claimed) return []
  const signal = AbortSignal.timeout(CLEAN_UP_MS)
  const programs = createPrograms({ session, signal })
  const destination = recordedDestination(options, session, record, [], { programs, signal })
  try {
    return await destination.discard()
  } finally {
    await destination.close()
  }
}
