/**
 * Surveys the databases of a published instance for objects that connect to other servers or act on their own. Owns no
 * state and only reads, so that a survey is no change of the instance; one database after another, within a deadline.
 *
 * report.ts decides when; database-survey.ts and role-settings.ts query the catalogs; warnings.ts words the result.
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
  // A database that accepts no connections does so in production too; an invalid one is of no use.
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
      // For example a damaged catalog. The database counts as not surveyed.
      unusableReason(error)
    } finally {
      await endClient(client)
    }
  }
  const left = open.length - databases.length - unusable.length
  return { databases, missingLibraries: first.missing, unusable, left }
}

/**
 * Warnings of missing libraries, which refuse connections from the start. One query of a small catalog, so it is part of
 * the publish itself. Never rejects: the later survey repeats the check.
 */
export async function libraryWarnings(session: PublishedSession): Promise<string[]> {
  try {
    const missing = await withAnyDatabase(await instanceAddress(session), missingLibraries)
    return surveyWarnings({ databases: [], missingLibraries: missing, unusable: [], left: 0 })
  } catch {
    return []
  }
}
