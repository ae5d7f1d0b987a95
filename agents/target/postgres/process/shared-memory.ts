/**
 * Removes the shared memory that a killed server leaves behind: System V segments and files in /dev/shm.
 *
 * A postmaster creates one small System V segment as a lock on its data directory, and one control segment for dynamic
 * shared memory (src/backend/port/sysv_shmem.c, src/backend/storage/ipc/dsm.c).
 */
import { execFile } from 'node:child_process'
import { lstat, readFile, rm } from 'node:fs/promises'
import { endianness } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)
/** How long killed processes may take to give up their memory, and how often that is looked at, ms. */
const DETACH_TIMEOUT = 2_000
const DETACH_POLL = 10

/**
 * Names in /dev/shm that a running process has mapped. For a process in another mount namespace the kernel shows paths
 * relative to the root of the file system.
 */
export async function mappedSegments(pid: number): Promise<string[]> {
  const maps = await readFile(`/proc/${pid}/maps`, 'utf8').catch(() => '')
  return [
    ...new Set([...maps.matchAll(/ (?:\/dev\/shm)?\/(PostgreSQL\.\d+)$/gm)].map((match) => match[1] ?? '')),
  ]
}

export interface DeadPostmaster {
  readonly pid: number
  readonly uid: number
  /** Major version, as a number. */
  readonly version: number
  /** The result of `mappedSegments` while it was running. */
  readonly mapped: readonly string[]
}

/**
 * Removes the shared memory of a dead postmaster.
 * @returns how many segments were removed
 */
export async function removeSegments({ pid, uid, version, mapped }: DeadPostmaster): Promise<number> {
  let removed = 0
  for (const shmid of await detachedSegments(pid, uid)) {
    await run('ipcrm', ['-m', shmid], { timeout: 10_000 }).then(
      () => removed++,
      () => undefined,
    )
  }
  const listed = await Promise.all(mapped.map((name) => controlledSegments(name, version)))
  for (const name of new Set([...mapped, ...listed.flat()])) {
    const path = `/dev/shm/${name}`
    const stat = await lstat(path).catch(() => undefined)
    if (stat === undefined || stat.uid !== uid || !stat.isFile()) continue
    await rm(path, { force: true })
    removed++
  }
  return removed
}

/**
 * System V segments that this process created and that no process is attached to. A process that was killed is attached
 * until it has given up its memory, which is waited for; the process id may be another server's by now, whose segment
 * stays attached.
 */
async function detachedSegments(pid: number, uid: number): Promise<string[]> {
  for (const deadline = performance.now() + DETACH_TIMEOUT; ; await delay(DETACH_POLL)) {
    const table = await readFile('/proc/sysvipc/shm', 'utf8').catch(() => '')
    // proc(5): key shmid perms size cpid lpid nattch uid …
    const rows = table.split('\n').map((line) => line.trim().split(/\s+/))
    const created = rows.filter(
      ([, , , , creator, , , owner]) => Number(creator) === pid && Number(owner) === uid,
    )
    const detached = created.filter(([, , , , , , attached]) => Number(attached) === 0)
    if (detached.length === created.length || performance.now() > deadline)
      return detached.flatMap(([, shmid]) => shmid ?? [])
  }
}

/** dsm.c: PG_DYNSHMEM_CONTROL_MAGIC. */
const CONTROL_MAGIC = 0x9a503d32
const CONTROL_HEADER = 16

/**
 * The segments that a control segment lists; none if `name` is no control segment. Statistics (15 and newer) and parallel
 * queries use such segments, which the postmaster itself never maps.
 *
 * dsm.c: magic, nitems and maxitems, then at 16 the items, each beginning with its handle, all uint32 in the machine's
 * byte order. An item takes 40 bytes; before version 14, which added two page numbers, 24.
 */
async function controlledSegments(name: string, version: number): Promise<string[]> {
  const segment = await readFile(`/dev/shm/${name}`).catch(() => undefined)
  if (segment === undefined || segment.length < CONTROL_HEADER) return []
  const word = endianness() === 'LE' ? segment.readUInt32LE.bind(segment) : segment.readUInt32BE.bind(segment)
  if (word(0) !== CONTROL_MAGIC) return []
  const itemBytes = version >= 14 ? 40 : 24
  const items = Math.min(word(4), Math.floor((segment.length - CONTROL_HEADER) / itemBytes))
  return Array.from({ length: items }, (_, index) => `PostgreSQL.${word(CONTROL_HEADER + index * itemBytes)}`)
}
