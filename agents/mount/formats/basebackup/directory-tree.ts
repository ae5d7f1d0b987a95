/** The tree of a copy's directory on disk, and its tablespaces by their links. */
import { type Dirent, lstatSync } from 'node:fs'
import { readdir, readlink, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { decodeName, mayNotBeUtf8, systemPath } from '../../../dataplane/protocol/file-names.ts'
import { type AllowedRoots, isBelowRoots, resolveAllowed, resolveRoots } from '../../decode/allowed-roots.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import type { TreeNode } from '../tree.ts'
import { nextTurn } from '../turns.ts'
import type { CopySource, TablespaceLocation } from './copy-locations.ts'

/** PostgreSQL's directories are not that deep; a loop of bind mounts is. */
const MAX_DEPTH = 32

/**
 * The tablespaces of a plain copy, each at the present target of its link.
 * @throws HowdahError `backup_unsupported` when one is outside of the repository or missing
 */
export async function linkedTablespaces(roots: AllowedRoots, data: string): Promise<TablespaceLocation[]> {
  const found: TablespaceLocation[] = []
  const places = await resolveRoots(roots)
  const entries = await readdir(join(data, 'pg_tblspc'), { withFileTypes: true }).catch(() => [])
  for (const entry of entries) {
    if (!entry.isSymbolicLink() || !/^\d{1,10}$/.test(entry.name)) continue
    const link = join(data, 'pg_tblspc', entry.name)
    const target = await readlink(link)
    const directory = await realpath(link).catch(() => undefined)
    if (directory === undefined || !isBelowRoots(places, directory)) {
      const where = directory === undefined ? 'does not exist' : 'is outside of the repository'
      throw new HowdahError(
        'backup_unsupported',
        `${link} points to ${target}, which ${where}; take the backup with -T <location>=<a directory below ${roots.root}>, make the link point there, or list where it leads in linkTargets of the repository`,
      )
    }
    found.push({ oid: entry.name, target, place: { kind: 'directory', path: directory } })
  }
  return found
}

/**
 * Walks a directory, which is the source of all of its files.
 * @param at the tree path of the directory itself
 * @throws HowdahError `backup_damaged` | `repository_unavailable`; `configuration` when it is a link that leads outside
 */
export async function directoryNodes(
  roots: AllowedRoots,
  directory: string,
  at: string,
): Promise<TreeNode<CopySource>[]> {
  const nodes: TreeNode<CopySource>[] = []
  const source = { directory: '', at }

  async function walk(path: string, treePath: string, depth: number): Promise<void> {
    if (depth > MAX_DEPTH) throw new HowdahError('backup_damaged', `${path} is too deep`)
    const stat = lstatSync(systemPath(path))
    if (!stat.isDirectory()) throw new HowdahError('backup_damaged', `${path} is not a directory`)
    const { mode, mtimeMs } = stat
    nodes.push({ path: treePath, kind: 'directory', mode: mode & 0o7777, mtime: mtimeMs / 1000, size: 0 })
    const below: string[] = []
    for (const { entry, name } of await entriesOf(path)) {
      const inner = join(path, name)
      const place = { path: `${treePath}/${name}`, mode: 0o777 }
      if (entry.isDirectory()) {
        below.push(name)
      } else if (entry.isSymbolicLink()) {
        const link = {
          kind: 'symlink',
          mtime: 0,
          size: 0,
          linkTarget: await readlink(systemPath(inner)),
        } as const
        nodes.push({ ...place, ...link })
      } else if (entry.isFile()) {
        // Synchronous: 100,000 of these take a third of a second, and many times that through the thread pool.
        const file = lstatSync(systemPath(inner))
        nodes.push({
          ...place,
          kind: 'file',
          mode: file.mode & 0o7777,
          mtime: file.mtimeMs / 1000,
          size: file.size,
          source,
        })
      }
    }
    await nextTurn()
    for (const name of below) await walk(join(path, name), `${treePath}/${name}`, depth + 1)
  }

  try {
    source.directory = await resolveAllowed(roots, directory)
    await walk(source.directory, at, 0)
  } catch (error) {
    if (!isSystemError(error)) throw error
    const isMissing = error.code === 'ENOENT' && error.path === directory
    throw new HowdahError(
      isMissing ? 'backup_damaged' : 'repository_unavailable',
      `${directory} cannot be read: ${error.message}`,
      { cause: error },
    )
  }
  return nodes
}

type Entry = Pick<Dirent, 'isDirectory' | 'isSymbolicLink' | 'isFile'>

/** The entries of a directory, by names that preserve their bytes. */
async function entriesOf(directory: string): Promise<{ entry: Entry; name: string }[]> {
  const path = systemPath(directory)
  const entries = await readdir(path, { withFileTypes: true })
  if (!entries.some(({ name }) => mayNotBeUtf8(name)))
    return entries.map((entry) => ({ entry, name: entry.name }))
  const asBytes = await readdir(path, { withFileTypes: true, encoding: 'buffer' })
  return asBytes.map((entry) => ({ entry, name: decodeName(entry.name, 0, entry.name.length) }))
}
