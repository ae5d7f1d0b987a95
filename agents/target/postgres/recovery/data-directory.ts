/**
 * Prepares the data directory in the mount for its first start: requests recovery, and removes what would connect the
 * instance to production.
 *
 * Its writes go to the write cache. The directory's contents come from the repository and are untrusted: no symbolic link
 * in it is followed.
 */
import { constants } from 'node:fs'
import { copyFile, lchown, lstat, open, readdir, readlink, rename, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { createDurableMarker } from '../process/atomic-file.ts'
import { RECOVERY_REQUESTS, recoveryRequest } from '../settings/recovery-settings.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'

const WAL_NAME = /^([0-9A-F]{24}|[0-9A-F]{8}\.history)$/

/** Files that a server, standby or restore of any version may have left. */
const LEFTOVERS = [
  ...RECOVERY_REQUESTS,
  'promote',
  'fallback_promote',
  'postmaster.pid',
  // From it PostgreSQL would create symbolic links to production's paths.
  'tablespace_map',
]

/**
 * Prepares the data directory once. After that PostgreSQL records in it how far recovery has come, and only the requested
 * kind of recovery can still change, as long as it has not ended.
 * @throws HowdahError `backup_damaged` when the data directory is not a directory
 */
export async function prepareDataDirectory(spec: InstanceSpec): Promise<void> {
  const paths = instancePaths(spec)
  if (await exists(paths.armed)) return updateRecoveryRequest(spec)
  await assertDirectory(paths.data)
  await Promise.all([
    ...LEFTOVERS.map((name) => rm(join(paths.data, name), { force: true })),
    removeSlots(join(paths.data, 'pg_replslot')),
    linkTablespaces(spec),
  ])
  if (spec.ownWal !== undefined) await copyWal(spec, spec.ownWal)
  else {
    const { name, text } = recoveryRequest(spec)
    await createFor(spec, join(paths.data, name), text)
  }
  await createDurableMarker(paths.armed)
}

/** Copies the WAL that a stopped server needs to start into its pg_wal, with the right owner and durably. */
async function copyWal(spec: InstanceSpec, names: readonly string[]): Promise<void> {
  const { wal, pgWal } = instancePaths(spec)
  for (const name of names) {
    if (!WAL_NAME.test(name))
      throw new HowdahError('backup_damaged', `${name} is not the name of a WAL file.`)
    const temporary = join(pgWal, `${name}.howdah`)
    await rm(temporary, { force: true })
    await copyFile(join(wal, name), temporary, constants.COPYFILE_EXCL)
    const file = await open(temporary, constants.O_RDWR | constants.O_NOFOLLOW)
    try {
      await file.chown(spec.user.uid, spec.user.gid)
      await file.chmod(0o600)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, join(pgWal, name))
  }
}

/** Replaces the request file. In between both may exist, which means a standby to PostgreSQL, but never none. */
async function updateRecoveryRequest(spec: InstanceSpec): Promise<void> {
  const { data } = instancePaths(spec)
  const { name, text } = recoveryRequest(spec)
  // Left from a promotion that was requested and not started.
  await rm(join(data, 'promote'), { force: true })
  const found: string[] = []
  for (const each of RECOVERY_REQUESTS) if (await exists(join(data, each))) found.push(each)
  if (found.length === 0) return
  if (text !== '' || !found.includes(name)) {
    const temporary = join(data, `${name}.howdah`)
    await rm(temporary, { force: true })
    await createFor(spec, temporary, text)
    await rename(temporary, join(data, name))
  }
  for (const other of found) if (other !== name) await rm(join(data, other))
}

/** Requests the promotion of a running server; PostgreSQL documentation, pg_ctl promote. */
export async function requestPromotion(spec: InstanceSpec, pid: number): Promise<void> {
  const path = join(instancePaths(spec).data, 'promote')
  if (!(await exists(path))) await createFor(spec, path, '')
  process.kill(pid, 'SIGUSR1')
}

/**
 * Removes the postmaster.pid of a server that is known to be dead. After a reboot its process id may belong to another
 * process, and PostgreSQL would refuse to start.
 */
export async function removeStalePidFile(spec: InstanceSpec): Promise<void> {
  await rm(join(instancePaths(spec).data, 'postmaster.pid'), { force: true })
}

/** Replication slots would retain WAL for standbys that never connect. */
async function removeSlots(directory: string): Promise<void> {
  if (!(await exists(directory))) return
  await assertDirectory(directory)
  for (const name of await readdir(directory))
    await rm(join(directory, name), { recursive: true, force: true })
}

/** Makes the links in pg_tblspc point to the mount's tablespaces, and removes all others. */
async function linkTablespaces(spec: InstanceSpec): Promise<void> {
  const { data, tablespaces } = instancePaths(spec)
  const links = join(data, 'pg_tblspc')
  if (!(await exists(links))) return
  await assertDirectory(links)
  const named = (await exists(tablespaces)) ? await readdir(tablespaces) : []
  const wanted = new Set(named.filter((name) => /^\d+$/.test(name)))
  for (const entry of await readdir(links, { withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue
    const path = join(links, entry.name)
    if (wanted.has(entry.name) && (await readlink(path)) === join(tablespaces, entry.name))
      wanted.delete(entry.name)
    else await rm(path)
  }
  for (const oid of wanted) {
    const path = join(links, oid)
    if (await exists(path)) continue
    await symlink(join(tablespaces, oid), path)
    await lchown(path, spec.user.uid, spec.user.gid)
  }
}

/**
 * Creates a file in the data directory that belongs to the instance's user; the path must not exist.
 *
 * With direct I/O: a child that is forked for another session at this moment inherits the descriptor, and closes it before
 * it executes its program. With dirty pages that close would wait for a mount that hangs, and spawn() here with it.
 */
export async function createFor({ user }: InstanceSpec, path: string, text: string): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECT } = constants
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_DIRECT
  const file = await open(path, flags, 0o600)
  try {
    await file.chown(user.uid, user.gid)
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function assertDirectory(path: string): Promise<void> {
  if (!(await lstat(path)).isDirectory())
    throw new HowdahError('backup_damaged', `${path} of the backup is not a directory.`)
}

async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(absent)) !== undefined
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
