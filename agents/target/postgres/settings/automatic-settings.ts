/**
 * Extracts the backup's postgresql.auto.conf from the data directory, once, and leaves an empty one there.
 *
 * PostgreSQL always reads the file of that name, after every other one, and does not start if a value in it is invalid on
 * this machine, even one that the command line overrides. So its settings become part of the configuration file generated
 * for the instance, and the file in the data directory has only what ALTER SYSTEM writes in the published instance, which
 * stays in effect across restarts, except for values that the request gives.
 */
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { exists, writeFileAtomically } from '../process/atomic-file.ts'
import { createFor } from '../recovery/data-directory.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import { readSmallFile } from './backup-configuration.ts'

const NAME = 'postgresql.auto.conf'
/** It may contain secrets of production. */
const MODE = 0o600

/** @returns the text of the backup's file; the same at every start */
export async function extractAutomaticSettings(spec: InstanceSpec): Promise<string> {
  const { data, automatic, configuration } = instancePaths(spec)
  const known = await readSmallFile(configuration, automatic)
  if (known !== undefined) return known
  // If an agent was killed here before, this copy exists, and the original may already be empty.
  const copy = `${automatic}.copy`
  if (!(await exists(copy)))
    await writeFileAtomically(copy, (await readSmallFile(data, join(data, NAME))) ?? '', MODE)
  const emptied = join(data, `${NAME}.howdah`)
  await rm(emptied, { force: true })
  await createFor(spec, emptied, '')
  await rename(emptied, join(data, NAME))
  await rename(copy, automatic)
  return (await readSmallFile(configuration, automatic)) ?? ''
}

/** Removes what ALTER SYSTEM set in the published instance for these names, in lower case; its file holds a setting a line. */
export async function dropAutomaticSettings(spec: InstanceSpec, names: ReadonlySet<string>): Promise<void> {
  const { data } = instancePaths(spec)
  const file = join(data, NAME)
  const text = (await readSmallFile(data, file)) ?? ''
  const isKept = (line: string) => !names.has(/^\s*([\w.]+)/.exec(line)?.[1]?.toLowerCase() ?? '')
  const kept = text.split('\n').filter(isKept).join('\n')
  if (kept === text) return
  const changed = `${file}.howdah`
  await rm(changed, { force: true })
  await createFor(spec, changed, kept)
  await rename(changed, file)
}
