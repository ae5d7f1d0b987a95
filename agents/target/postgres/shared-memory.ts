/**
 * Shared memory that a server leaves behind when it is killed: System V segments and files of /dev/shm.
 *
 * A postmaster makes one small System V segment as a lock on its data directory, and one control segment for dynamic
 * shared memory (src/backend/port/sysv_shmem.c, src/backend/storage/ipc/dsm.c).
 */
import { execFile } from 'node:child_process'
import { lstat, readFile, rm } from 'node:fs/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Names in /dev/shm that the process has mapped. Read while it lives. */
export async function mappedSegments(pid: number): Promise<string[]> {
  const maps = await readFile(`/proc/${pid}/maps`, 'utf8').catch(() => '')
  return [...new Set([...maps.matchAll(/ \/dev\/shm\/(PostgreSQL\.\d+)$/gm)].map((match) => match[1] ?? ''))]
}

/**
 * Removes what a dead postmaster left.
 * @param pid of the dead postmaster
 * @param mapped what `mappedSegments` said while it lived
 * @returns how many segments were removed
 */
export async function removeSegments(pid: number, uid: number, mapped: readonly string[]): Promise<number> {
  const table = await readFile('/proc/sysvipc/shm', 'utf8').catch(() => '')
  let removed = 0
  for (const line of table.split('\n').slice(1)) {
    // proc(5): key shmid perms size cpid lpid nattch uid …; nobody else can be attached to what is removed.
    const [, shmid, , , creator, , attached, owner] = line.trim().split(/\s+/)
    if (Number(creator) !== pid || Number(attached) !== 0 || Number(owner) !== uid || shmid === undefined)
      continue
    await run('ipcrm', ['-m', shmid], { timeout: 10_000 }).then(
      () => removed++,
      () => undefined,
    )
  }
  for (const name of mapped) {
    const path = `/dev/shm/${name}`
    const stat = await lstat(path).catch(() => undefined)
    if (stat === undefined || stat.uid !== uid || !stat.isFile()) continue
    await rm(path, { force: true })
    removed++
  }
  return removed
}
