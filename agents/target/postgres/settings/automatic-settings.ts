/**
 * Takes the backup's postgresql.auto.conf out of the data directory, once, and leaves an empty one there.
 *
 * PostgreSQL reads the file of that name by itself, after every other one, and does not start when a value in it cannot
 * be had on this machine, even one that the command line overrides. So what production had in it becomes a part of the
 * configuration file made for the instance, and the file in the data directory holds what ALTER SYSTEM writes there in
 * the published instance: that stays in force when the instance starts again.
 */
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { exists, writeFileAtomically } from '../process/atomic-file.ts'
import { createFor } from '../recovery/data-directory.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import { readSmallFile } from './backup-configuration.ts'

const NAME = 'postgresql.auto.conf'
/** It may hold what production keeps secret. */
const MODE = 0o600

/** @returns the text that the backup had in it; the same at every start */
export async function extractAutomaticSettings(spec: InstanceSpec): Promise<string> {
  const { data, automatic, configuration } = instancePaths(spec)
  const known = await readSmallFile(configuration, automatic)
  if (known !== undefined) return known
  // An agent that died in between had written this copy, and perhaps emptied the file that it is of.
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
