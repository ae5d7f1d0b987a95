/**
 * The tablespaces of a session that its backup does not have and its WAL creates. Their locations are production's; the
 * session has directories of its own in their place, below `tblspc/` of its mount. Which there are is noted beside the
 * session's configuration, since each start of the server needs them: recovery may create them once more.
 */
import { chown, lstat, mkdir, readFile, symlink } from 'node:fs/promises'
import { z } from 'zod'
import type { TablespaceBinding } from '../isolation/root-layout.ts'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'
import { type InstanceSpec, instancePaths } from '../postgres/specification.ts'
import { locationDirectory } from './location-directory.ts'
import { createdInLastSegments } from './replayed-segments.ts'

const Noted = z.array(z.object({ oid: z.int(), location: z.string() }))
type Noted = z.infer<typeof Noted>

/** What the root of the session's server binds in the place of locations. Makes the directories where there are none. */
export async function tablespaceBindings(spec: InstanceSpec): Promise<TablespaceBinding[]> {
  const { tablespaces } = instancePaths(spec)
  const bindings = new Map<string, TablespaceBinding>()
  for (const { oid, location } of await noted(spec)) {
    if (bindings.has(location)) continue
    const directory = `${tablespaces}/${locationDirectory(location)}`
    await makeDirectory(spec, directory, `${tablespaces}/${oid}`)
    bindings.set(location, { location, directory })
  }
  return [...bindings.values()]
}

/**
 * Looks whether a server that ended in recovery could not create a tablespace, and notes what it needs.
 * @returns the locations that are new; none: it ended of something else
 */
export async function recordCreatedTablespaces(spec: InstanceSpec): Promise<string[]> {
  const before = await noted(spec)
  const known = new Set(before.map(({ location }) => location))
  const found = await createdInLastSegments(instancePaths(spec).pgWal)
  const added = found.filter(({ location }) => !known.has(location))
  if (added.length === 0) return []
  const all: Noted = [...before, ...added.map(({ oid, location }) => ({ oid, location }))]
  await writeFileAtomically(notePath(spec), JSON.stringify(all), 0o600)
  return [...new Set(added.map(({ location }) => location))]
}

async function makeDirectory({ user }: InstanceSpec, directory: string, ofBackup: string): Promise<void> {
  if (await exists(directory)) return
  // A tablespace that was created while the backup was taken has its files there.
  if (await exists(ofBackup)) return symlink(ofBackup, directory)
  await mkdir(directory, { mode: 0o700 })
  await chown(directory, user.uid, user.gid)
}

async function noted(spec: InstanceSpec): Promise<Noted> {
  try {
    return Noted.parse(JSON.parse(await readFile(notePath(spec), 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

const notePath = (spec: InstanceSpec) => `${instancePaths(spec).configuration}/tablespaces.json`

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
}
