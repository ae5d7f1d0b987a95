/** Prepares what a mount needs before it is served: its directories and the backup's tree. */
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync, unlinkSync } from 'node:fs'
import { open, readFile, rename, writeFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSource } from '../../../dataplane/backup-source.ts'
import { type BaseTree, buildBaseTree, parseBaseTree } from '../../filesystem/tree/base-tree.ts'
import { publishedTree } from '../../filesystem/tree/published-tree.ts'
import { cachePaths, type MountSpec } from '../mount-spec.ts'

export function prepareDirectories({ cachePath, mountPoint, owner }: MountSpec): void {
  const { wal, readyWal, walDrafts, logDirectory } = cachePaths(cachePath)
  // The instance's user may pass through to pg_wal, and read nothing else.
  chmodSync(cachePath, 0o711)
  // Left by an earlier process.
  rmSync(walDrafts, { recursive: true, force: true })
  for (const directory of [logDirectory, wal, readyWal, walDrafts]) {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  }
  for (const name of readdirSync(readyWal)) {
    try {
      unlinkSync(`${readyWal}/${name}`)
    } catch {
      // A subdirectory made by the instance's user, who owns the directory.
    }
  }
  for (const directory of [wal, readyWal]) chownSync(directory, owner.uid, owner.gid)
  const umask = process.umask(0o022)
  // Not its parents: the agent checks those.
  if (!existsSync(mountPoint)) mkdirSync(mountPoint, { mode: 0o700 })
  process.umask(umask)
}

export interface OpenedTree {
  readonly tree: BaseTree
  /** Resolves when the tree is on disk. @throws HowdahError `mount_failed` */
  readonly saved: Promise<void>
}

/** The tree, which is saved at the first mount so that a remount needs no mount server. */
export async function openTree(spec: MountSpec, source: BackupSource, logger: Logger): Promise<OpenedTree> {
  const { tree: path, wal } = cachePaths(spec.cachePath)
  if (existsSync(path)) {
    return { tree: parseBaseTree(await readFile(path), path), saved: Promise.resolve() }
  }
  const tree = await buildBaseTree(
    publishedTree(source.tree(), {
      mountPoint: spec.mountPoint,
      walDirectory: wal,
      extraFiles: spec.extraFiles,
      now: Date.now() / 1000,
      onDropped: (link, target) =>
        logger.warn({ link, target }, 'a symbolic link out of the backup is left out'),
    }),
  )
  const saved = saveDurably(path, tree.serialize()).catch((cause: unknown) => {
    throw new HowdahError('mount_failed', `the backup's file list cannot be saved in ${path}`, { cause })
  })
  // Reported to the caller that awaits it.
  saved.catch(() => undefined)
  return { tree, saved }
}

async function saveDurably(path: string, content: Uint8Array): Promise<void> {
  const draft = `${path}.draft`
  await writeFile(draft, content, { mode: 0o600, flush: true })
  await rename(draft, path)
  const directory = await open(path.slice(0, path.lastIndexOf('/')))
  await directory.sync()
  await directory.close()
}
