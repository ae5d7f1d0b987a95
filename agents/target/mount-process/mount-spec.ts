/** What a mount process is told: the file `<write cache>/mount.json`, and where it keeps what in the write cache. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { HowdahError } from '../../../messages/errors.ts'
import type { ExtraFile } from '../filesystem/tree/published-tree.ts'

/** How FUSE requests arrive: by the kernel's protocol, which takes the privilege to mount, or through libfuse. */
export type MountDriver = 'kernel' | 'fuse-native'

export interface MountSpec {
  readonly session: string
  /** Default: `kernel` for root. */
  readonly driver?: MountDriver
  /** Absolute; made when missing. */
  readonly mountPoint: string
  /** Absolute; exists. */
  readonly cachePath: string
  /** The published instance's user. */
  readonly owner: { readonly uid: number; readonly gid: number }
  /** Whether others than the user of this process may enter; needs root or `user_allow_other`. */
  readonly allowOther: boolean
  readonly dataPlane: DataPlaneAddress
  readonly extraFiles: readonly ExtraFile[]
  /** What is mounted; without it nothing that is fetched is kept beyond the page cache, nor recorded. */
  readonly backup?: { readonly repository: string; readonly instance: string; readonly label: string }
  /** Where fetched blocks are kept for all sessions of a backup, and how many bytes of all backups; 0: none. */
  readonly fetched?: { readonly directory: string; readonly budgetBytes: number }
  /**
   * What tells the write cache's journal from any other. `fresh`: there is none yet; otherwise one of another `id`, or
   * none, is refused. None given: whatever is there is taken.
   */
  readonly journal?: { readonly id: string; readonly fresh: boolean }
  /** Bytes of changes; no limit when missing. */
  readonly quotaBytes?: number
  /** Bytes to keep free on the write cache's file system. */
  readonly reserveBytes: number
  /** Milliseconds that a read may wait for the mount server. */
  readonly readDeadlineMs: number
  /** The WAL segment that recovery begins with, to be made ready at once. */
  readonly firstWal?: string
  readonly logLevel?: string
}

export interface DataPlaneAddress {
  readonly host: string
  readonly port: number
  readonly ticket: string
  /** Name of the mount agent. */
  readonly serverName: string
  /** Paths of PEM files. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
}

/** What the mount process of a session calls itself. */
export function mountTitle(session: string): string {
  return `howdah mount ${session}`
}

/** Places in a write cache. */
export function cachePaths(cachePath: string) {
  return {
    spec: `${cachePath}/mount.json`,
    tree: `${cachePath}/tree.bin`,
    /** The name of the fetched store that the session uses. */
    fetchedKey: `${cachePath}/fetched.key`,
    wal: `${cachePath}/pg_wal`,
    /** WAL segments for PostgreSQL to take. */
    readyWal: `${cachePath}/ready_wal`,
    walDrafts: `${cachePath}/wal_drafts`,
    // Not in run/, which the instance's user may write to: the agent signals the process that is named here.
    socket: `${cachePath}/mount.sock`,
    identity: `${cachePath}/mount.pid`,
    logDirectory: `${cachePath}/log`,
    log: `${cachePath}/log/mount.log`,
  }
}

/** Readable by the owner of this process only. */
export function writeMountSpec(spec: MountSpec): string {
  const path = cachePaths(spec.cachePath).spec
  writeFileSync(path, JSON.stringify(spec), { mode: 0o600 })
  chmodSync(path, 0o600)
  return path
}

/**
 * Waits for the agent's orders: the path of a spec on standard input. Undefined when the agent ended before.
 * @throws HowdahError `mount_failed`
 */
export async function awaitMountSpec(): Promise<MountSpec | undefined> {
  const path = (await text(process.stdin)).trim()
  return path === '' ? undefined : readMountSpec(path)
}

/** @throws HowdahError `mount_failed` */
export function readMountSpec(path: string): MountSpec {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as MountSpec
  } catch (cause) {
    throw new HowdahError('mount_failed', `the mount process cannot read its orders in ${path}`, { cause })
  }
}
