/**
 * The tablespaces of a session that were created after its backup, by its WAL. Their locations are production's; the
 * session has directories of its own in their place, below `tblspc/` of its mount. They are recorded beside the session's
 * configuration, since every start of the server needs them: recovery may create them again.
 */
import { chown, lstat, mkdir, readFile, symlink } from 'node:fs/promises'
import { z } from 'zod'
import type { TablespaceBinding } from '../isolation/root-layout.ts'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'
import { type InstanceSpec, instancePaths } from '../postgres/specification.ts'
import { locationDirectory } from './location-directory.ts'
import { createdInLastSegments } from './replayed-segments.ts'

const TablespaceRecord = z.array(z.object({ oid: z.int(), location: z.string() }))
type TablespaceRecord = z.infer<typeof TablespaceRecord>

/** The directories to bind at the locations in the root of the session's server. Creates those that are missing. */
export async function tablespaceBindings(spec: InstanceSpec): Promise<TablespaceBinding[]> {
  const { tablespaces } = instancePaths(spec)
  const bindings = new Map<string, TablespaceBinding>()
  for (const { oid, location } of await readRecord(spec)) {
    if (bindings.has(location)) continue
    const directory = `${tablespaces}/${locationDirectory(location)}`
    await makeDirectory(spec, directory, `${tablespaces}/${oid}`)
    bindings.set(location, { location, directory })
  }
  return [...bindings.values()]
}

/**
 * Records the tablespaces that a server which ended in recovery could not create.
 * @returns the new locations; none: it ended for another reason
 */
export async function recordCreatedTablespaces(spec: InstanceSpec): Promise<string[]> {
  const before = await readRecord(spec)
  const known = new Set(before.map(({ location }) => location))
  const found = await createdInLastSegments(instancePaths(spec).pgWal)
  const added = found.filter(({ location }) => !known.has(location))
  if (added.length === 0) return []
  const all: TablespaceRecord = [...before, ...added.map(({ oid, location }) => ({ oid, location }))]
  await writeFileAtomically(recordPath(spec), JSON.stringify(all), 0o600)
  return [...new Set(added.map(({ location }) => location))]
}

async function makeDirectory({ user }: InstanceSpec, directory: string, ofBackup: string): Promise<void> {
  if (await exists(directory)) return
  // The files of a tablespace created while the backup was taken are in the backup.
  if (await exists(ofBackup)) return symlink(ofBackup, directory)
  await mkdir(directory, { mode: 0o700 })
  await chown(directory, user.uid, user.gid)
}

async function readRecord(spec: InstanceSpec): Promise<TablespaceRecord> {
  try {
    return TablespaceRecord.parse(JSON.parse(await readFile(recordPath(spec), 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

const recordPath = (spec: InstanceSpec) => `${instancePaths(spec).configuration}/tablespaces.json`

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
}
