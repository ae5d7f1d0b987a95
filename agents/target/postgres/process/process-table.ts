/**
 * Finds a session's server processes in /proc, without touching the mount, which may hang.
 *
 * /proc files: proc(5). A process that ends while this reads is left out.
 */
import { lstatSync } from 'node:fs'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { identify, type ProcessIdentity } from '../../../../config/process-identity.ts'
import { clusterName, type InstanceSpec, instancePaths } from '../specification.ts'

export interface Postmaster extends ProcessIdentity {
  /** The port of its command line. */
  readonly port: number | undefined
}

type Where = Pick<InstanceSpec, 'mountPoint' | 'cachePath' | 'session'> & { readonly uid: number }

/** The running postmaster of a session: the process of the session's user with its data directory on the command line. */
export async function findPostmaster(where: Where): Promise<Postmaster | undefined> {
  const found = await eachProcess(where.uid, (pid) => postmasterAt(pid, where))
  // A child that has just been forked still has the postmaster's command line.
  const parents = found.map(({ pid }) => identify(pid)?.parent)
  return found.find((_, index) => !found.some(({ pid }) => pid === parents[index]))
}

/** As `findPostmaster`, for one process. */
export async function postmasterAt(
  pid: number,
  where: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>,
): Promise<Postmaster | undefined> {
  const state = identify(pid)
  const commandLine = await commandLineOf(pid)
  if (state === undefined || commandLine === undefined) return undefined
  if (commandLine[1] !== '-D' || commandLine[2] !== instancePaths(where).data) return undefined
  const port = commandLine.find((argument) => argument.startsWith('port='))
  return { pid, startTime: state.startTime, port: port === undefined ? undefined : Number(port.slice(5)) }
}

/**
 * All server processes of a session except zombies: those whose working directory is its data directory, those with its
 * cluster name in their title (a lazily unmounted directory has no path), and the children that restore WAL for them.
 */
export async function findServerProcesses(where: Where): Promise<ProcessIdentity[]> {
  const { data, wal, restoreScript } = instancePaths(where)
  const title = `postgres: ${clusterName(where.session)}: `
  return eachProcess(where.uid, async (pid) => {
    const state = identify(pid)
    const [directory, commandLine] = await Promise.all([
      readlink(`/proc/${pid}/cwd`).catch(() => undefined),
      commandLineOf(pid),
    ])
    if (state === undefined || commandLine === undefined) return undefined
    const ours =
      (directory === data && /(^|\/)postgres(:|$)/.test(commandLine[0] ?? '')) ||
      commandLine[0]?.startsWith(title) === true ||
      (commandLine[1] === '-D' && commandLine[2] === data) ||
      commandLine.some((word) => word.includes(restoreScript) || word.startsWith(`${wal}/`))
    return ours ? { pid, startTime: state.startTime } : undefined
  })
}

async function eachProcess<T>(uid: number, look: (pid: number) => Promise<T | undefined>): Promise<T[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const found = await Promise.all(pids.filter((pid) => ownerOf(pid) === uid).map(look))
  return found.filter((each) => each !== undefined)
}

/** The effective user of a process. Synchronous, since /proc is in memory and the thread pool only adds latency. */
function ownerOf(pid: number): number | undefined {
  return lstatSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid
}

async function commandLineOf(pid: number): Promise<string[] | undefined> {
  return (await readProc(`${pid}/cmdline`))?.split('\0')
}

async function readProc(path: string): Promise<string | undefined> {
  return readFile(`/proc/${path}`, 'utf8').catch(() => undefined)
}
