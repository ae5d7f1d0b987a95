/** The configuration of a mount process, `<write cache>/mount.json`, and the paths of its files in the write cache. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { HowdahError } from '../../../messages/errors.ts'
import type { ExtraFile } from '../filesystem/tree/published-tree.ts'

/** How FUSE requests arrive: by the kernel's protocol, which needs the privilege to mount, or through libfuse. */
export type MountDriver = 'kernel' | 'fuse-native'

export interface MountSpec {
  readonly session: string
  /** Default: `kernel` for root. */
  readonly driver?: MountDriver
  /** Absolute; created when missing. */
  readonly mountPoint: string
  /** Absolute; exists. */
  readonly cachePath: string
  /** The published instance's user. */
  readonly owner: { readonly uid: number; readonly gid: number }
  /** Whether users other than that of this process may access it; needs root or `user_allow_other`. */
  readonly allowOther: boolean
  readonly dataPlane: DataPlaneAddress
  readonly extraFiles: readonly ExtraFile[]
  /** The backup; without it fetched blocks are neither kept nor recorded. */
  readonly backup?: { readonly repository: string; readonly instance: string; readonly label: string }
  /** The directory of all fetched stores, and the bytes they may use together; 0: no block is kept. */
  readonly fetched?: { readonly directory: string; readonly budgetBytes: number }
  /**
   * Identifies the write cache's journal. `fresh`: it does not exist yet; otherwise a missing journal or one with another
   * `id` is refused. Undefined: any journal is accepted.
   */
  readonly journal?: { readonly id: string; readonly fresh: boolean }
  /** Bytes that changes may use; undefined: no limit. */
  readonly quotaBytes?: number
  /** Bytes that changes and `pg_wal` may use together, until the agent says otherwise; undefined: no limit. */
  readonly shareBytes?: number
  /** Bytes to keep free on the write cache's file system. */
  readonly reserveBytes: number
  /** Milliseconds that a read may wait for the mount server. */
  readonly readDeadlineMs: number
  /** The WAL segment that recovery starts with, to be made ready at once. */
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

/** The process title of a session's mount process. */
export function mountTitle(session: string): string {
  return `howdah mount ${session}`
}

/** Paths in a write cache. */
export function cachePaths(cachePath: string) {
  return {
    spec: `${cachePath}/mount.json`,
    tree: `${cachePath}/tree.bin`,
    /** The name of the fetched store that the session uses. */
    fetchedKey: `${cachePath}/fetched.key`,
    wal: `${cachePath}/pg_wal`,
    /** WAL segments ready for PostgreSQL's restore command. */
    readyWal: `${cachePath}/ready_wal`,
    walDrafts: `${cachePath}/wal_drafts`,
    // Not in run/, which is writable by the instance's user: the agent signals the process named here.
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
 * Waits for the agent to write the path of a spec to standard input. Undefined when the agent ended before.
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
    throw new HowdahError('mount_failed', `the mount process cannot read its configuration ${path}`, {
      cause,
    })
  }
}
