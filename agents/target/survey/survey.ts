/**
 * Looks through the databases of a published instance for what leads to other servers or acts by itself. Only reads, so
 * that nothing of it is a change of the instance; one database after another, and within a time of its own.
 */

import { endClient } from '../postgres/connections/client.ts'
import {
  connectTo,
  type InstanceAddress,
  instanceAddress,
  withAnyDatabase,
} from '../postgres/connections/instance-client.ts'
import { listDatabases, unusableReason } from '../postgres/connections/instance-databases.ts'
import type { PublishedSession } from '../session/published-session.ts'
import { type DatabaseSurvey, surveyDatabase } from './database-survey.ts'
import { missingLibraries } from './role-settings.ts'
import { type Survey, surveyWarnings } from './warnings.ts'

const MOST_DATABASES = 100
const DEADLINE_MS = 300_000
const QUERY_DEADLINE_MS = 60_000

/** @throws the error of a connection when the instance goes away; the signal's reason */
export async function surveyInstance(address: InstanceAddress, signal: AbortSignal): Promise<Survey> {
  const deadline = performance.now() + DEADLINE_MS
  const first = await withAnyDatabase(address, async (client, entered) => ({
    entered,
    all: await listDatabases(client),
    missing: await missingLibraries(client),
  }))
  // One that is closed is so in production; one that is invalid, or has no name, cannot be of use to anybody.
  const open = first.all.filter(({ closed, isTemplate }) => closed === undefined && !isTemplate)
  const databases: DatabaseSurvey[] = []
  const unusable: { database: string; why: string }[] = []
  for (const { name } of open.slice(0, MOST_DATABASES)) {
    signal.throwIfAborted()
    if (performance.now() > deadline) break
    const client = await connectTo(first.entered, name, { queryDeadlineMs: QUERY_DEADLINE_MS }).catch(
      (error: unknown) => {
        unusable.push({ database: name, why: unusableReason(error) })
      },
    )
    if (!client) continue
    try {
      databases.push(await surveyDatabase(client, name))
    } catch (error) {
      // A damaged catalog, say: it is counted among those that were not looked into.
      unusableReason(error)
    } finally {
      await endClient(client)
    }
  }
  const left = open.length - databases.length - unusable.length
  return { databases, missingLibraries: first.missing, unusable, left }
}

/**
 * What keeps people out from the first moment, and takes one look at one small catalog: told with the publish itself.
 * Never rejects; what is not found out here is told by the survey.
 */
export async function libraryWarnings(session: PublishedSession): Promise<string[]> {
  try {
    const missing = await withAnyDatabase(await instanceAddress(session), missingLibraries)
    return surveyWarnings({ databases: [], missingLibraries: missing, unusable: [], left: 0 })
  } catch {
    return []
  }
}
