/** What a mount process is told: the file `<write cache>/mount.json`, and where it keeps what in the write cache. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { HowdahError } from '../../../messages/errors.ts'
import type { ExtraFile } from '../filesystem/published-tree.ts'

export interface MountSpec {
  readonly session: string
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
  /** Bytes of changes; no limit when missing. */
  readonly quotaBytes?: number
  /** Bytes to keep free on the write cache's file system. */
  readonly reserveBytes: number
  /** Milliseconds that a read may wait for the mount server. */
  readonly readDeadlineMs: number
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

/** Places in a write cache. */
export function cachePaths(cachePath: string) {
  return {
    spec: `${cachePath}/mount.json`,
    tree: `${cachePath}/tree.json`,
    wal: `${cachePath}/pg_wal`,
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
export function awaitOrders(): MountSpec | undefined {
  const path = readFileSync(0, 'utf8').trim()
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
