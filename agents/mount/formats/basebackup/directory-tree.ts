/**
 * The tree of a plain pg_basebackup directory: what is on disk, checked against backup_manifest where there is one.
 * Tablespaces are followed through their links as long as they stay inside the repository.
 */
import { lstatSync } from 'node:fs'
import { readdir, readlink, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import { type BackupTree, buildTree, type TreeNode } from '../tree.ts'
import type { BackupManifest } from './backup-files.ts'

/** Deeper is no PostgreSQL; a loop of bind mounts may be. */
const MAX_DEPTH = 32

export interface TablespaceLink {
  readonly oid: string
  /** What the link says. */
  readonly target: string
  /** The directory on this machine. */
  readonly directory: string
}

/**
 * The tablespaces of a backup, each where it is now.
 * @throws HowdahError `backup_unsupported` when one is outside of the repository or missing
 */
export async function tablespaceLinks(root: string, backup: string): Promise<TablespaceLink[]> {
  const links: TablespaceLink[] = []
  const inside = await realpath(root)
  const entries = await readdir(join(backup, 'pg_tblspc'), { withFileTypes: true }).catch(() => [])
  for (const entry of entries) {
    if (!entry.isSymbolicLink() || !/^\d{1,10}$/.test(entry.name)) continue
    const link = join(backup, 'pg_tblspc', entry.name)
    const target = await readlink(link)
    const directory = await realpath(link).catch(() => undefined)
    if (directory === undefined || !directory.startsWith(`${inside}/`)) {
      const where = directory === undefined ? 'does not exist' : 'is outside of the repository'
      throw new HowdahError(
        'backup_unsupported',
        `${link} points to ${target}, which ${where}; take the backup with -T <location>=<a directory below ${root}>, or make the link point there`,
      )
    }
    links.push({ oid: entry.name, target, directory })
  }
  return links
}

/**
 * Walks the backup. The source of a file is its absolute path.
 * @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable`
 */
export async function walkBackup(
  root: string,
  backup: string,
  manifest: BackupManifest | undefined,
): Promise<BackupTree<string>> {
  const nodes: TreeNode<string>[] = []
  const missing = new Set(manifest?.sizes.keys())

  function check(name: string, size: number, path: string): void {
    const expected = manifest?.sizes.get(name)
    missing.delete(name)
    if (expected === undefined || expected === size) return
    throw new HowdahError(
      'backup_damaged',
      `${path} has ${size} bytes where backup_manifest lists ${expected}; has PostgreSQL been started on this backup, or the copy been cut short?`,
    )
  }

  /** `prefix` is the name in backup_manifest that everything in `directory` starts with. */
  async function walk(directory: string, treePath: string, prefix: string, depth: number): Promise<void> {
    if (depth > MAX_DEPTH) throw new HowdahError('backup_damaged', `${directory} is too deep`)
    const { mode, mtimeMs } = lstatSync(directory)
    nodes.push({ path: treePath, kind: 'directory', mode: mode & 0o7777, mtime: mtimeMs / 1000, size: 0 })
    const below: string[] = []
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name)
      const at = { path: `${treePath}/${entry.name}`, mode: 0o777 }
      if (entry.isDirectory()) {
        below.push(entry.name)
      } else if (entry.isSymbolicLink()) {
        const link = { kind: 'symlink', mtime: 0, size: 0, linkTarget: await readlink(path) } as const
        nodes.push({ ...at, ...link })
      } else if (entry.isFile()) {
        // Synchronous: 100,000 of these take a third of a second, and many times that one by one through the pool.
        const stat = lstatSync(path)
        check(prefix + entry.name, stat.size, path)
        nodes.push({
          ...at,
          kind: 'file',
          mode: stat.mode & 0o7777,
          mtime: stat.mtimeMs / 1000,
          size: stat.size,
          source: path,
        })
      }
    }
    await nextTurn()
    for (const name of below) {
      await walk(join(directory, name), `${treePath}/${name}`, `${prefix}${name}/`, depth + 1)
    }
  }

  try {
    await walk(backup, 'data', '', 0)
    for (const { oid, directory } of await tablespaceLinks(root, backup)) {
      await walk(directory, `tblspc/${oid}`, `pg_tblspc/${oid}/`, 0)
    }
  } catch (error) {
    if (!isSystemError(error)) throw error
    throw new HowdahError('repository_unavailable', `${backup} cannot be read: ${error.message}`, {
      cause: error,
    })
  }
  const [lost] = missing
  if (lost !== undefined) {
    throw new HowdahError(
      'backup_damaged',
      `${backup} lacks ${lost}${missing.size > 1 ? ` and ${missing.size - 1} more files` : ''} that backup_manifest lists`,
    )
  }
  return buildTree(nodes, backup, (path) => path)
}
