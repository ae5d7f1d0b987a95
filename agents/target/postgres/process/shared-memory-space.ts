/**
 * Checks the space for PostgreSQL's dynamic shared memory, which parallel queries use and, since version 15, statistics.
 * It consists of POSIX shared memory files in /dev/shm (dynamic_shared_memory_type), not in the write cache.
 */
import { statfs } from 'node:fs/promises'
import type { SystemUser } from '../specification.ts'
import { shellAs } from './user-process.ts'

const DIRECTORY = '/dev/shm'
/** For the control segment and the first segments of the statistics (1 MiB each, utils/mmgr/dsa.c). */
const LEAST = 4 * 1024 ** 2
/** The default of containers, which is enough for most queries. */
const USUAL = 64 * 1000 ** 2

const REMEDY =
  'Make it larger (mount -o remount,size=1G /dev/shm; of a container by --shm-size), or publish with --setting dynamic_shared_memory_type=sysv.'

interface Space {
  readonly total: number
  readonly free: number
}

/** A sentence if there is too little space for an instance to work; undefined otherwise. */
export async function sharedMemoryShortage(directory = DIRECTORY): Promise<string | undefined> {
  const space = await look(directory)
  if (space === undefined)
    return `${directory} is missing on the target: PostgreSQL has its shared memory there.`
  if (space.free >= LEAST) return undefined
  return `${described(directory, space)}: too little for PostgreSQL's shared memory. ${REMEDY}`
}

/** A sentence if there is little space; undefined otherwise. */
export async function sharedMemoryWarning(directory = DIRECTORY): Promise<string | undefined> {
  const space = await look(directory)
  if (space === undefined || space.free >= USUAL) return undefined
  return `${described(directory, space)}: parallel queries may fail for want of shared memory. ${REMEDY}`
}

/** A sentence if the user of an instance cannot create shared memory; undefined otherwise. */
export async function sharedMemoryDenied(
  user: SystemUser,
  directory = DIRECTORY,
): Promise<string | undefined> {
  const trial = 'file=$(mktemp "$1/PostgreSQL.howdah-XXXXXX") && rm "$file"'
  try {
    await shellAs(user, trial, [directory], { timeoutMs: 10_000 })
    return undefined
  } catch (error) {
    return `The user "${user.name}" cannot make shared memory in ${directory} on the target: ${(error as Error).message}. It should be a tmpfs that everybody may write to: mount -t tmpfs -o mode=1777 tmpfs ${directory}.`
  }
}

async function look(directory: string): Promise<Space | undefined> {
  try {
    const { blocks, bavail, bsize } = await statfs(directory)
    return { total: blocks * bsize, free: bavail * bsize }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return undefined
  }
}

function described(directory: string, { total, free }: Space): string {
  const size = (bytes: number) => `${Math.round(bytes / 1024)} kB`
  return `${directory} on the target has ${size(total)}, of which ${size(free)} are free`
}
