/**
 * Finds a session's server processes in /proc, without touching the mount, which may hang.
 *
 * /proc files: proc(5). Processes come and go while this reads; what is gone is left out.
 */
import { lstatSync } from 'node:fs'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { clusterName, type InstanceSpec, instancePaths } from './specification.ts'

export interface ServerProcess {
  readonly pid: number
  /** Clock ticks since boot; with `pid` it names a process until the next reboot. */
  readonly startTime: string
}

export interface Postmaster extends ServerProcess {
  /** The port of its command line. */
  readonly port: number | undefined
}

interface ProcessState extends ServerProcess {
  readonly parent: number
  readonly dead: boolean
}

type Where = Pick<InstanceSpec, 'mountPoint' | 'cachePath' | 'session'> & { readonly uid: number }

/** The running postmaster of a session: the process of its user whose command line has its data directory. */
export async function findPostmaster(where: Where): Promise<Postmaster | undefined> {
  const found = await eachProcess(where.uid, (pid) => postmasterAt(pid, where))
  // A child that was only just forked still has the postmaster's command line.
  const parents = await Promise.all(found.map(async ({ pid }) => (await processState(pid))?.parent))
  return found.find((_, index) => !found.some(({ pid }) => pid === parents[index]))
}

/** As `findPostmaster`, looking at one process only. */
export async function postmasterAt(
  pid: number,
  where: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>,
): Promise<Postmaster | undefined> {
  const [state, commandLine] = await Promise.all([processState(pid), commandLineOf(pid)])
  if (state === undefined || state.dead || commandLine === undefined) return undefined
  if (commandLine[1] !== '-D' || commandLine[2] !== instancePaths(where).data) return undefined
  const port = commandLine.find((argument) => argument.startsWith('port='))
  return { pid, startTime: state.startTime, port: port === undefined ? undefined : Number(port.slice(5)) }
}

/**
 * All server processes of a session but zombies: those that work in its data directory, those whose title has its
 * cluster name (a lazily unmounted directory has no path any more), and what restores WAL for them.
 */
export async function findServerProcesses(where: Where): Promise<ServerProcess[]> {
  const { data, wal, restoreScript } = instancePaths(where)
  const title = `postgres: ${clusterName(where.session)}: `
  return eachProcess(where.uid, async (pid) => {
    const [directory, commandLine, state] = await Promise.all([
      readlink(`/proc/${pid}/cwd`).catch(() => undefined),
      commandLineOf(pid),
      processState(pid),
    ])
    if (state === undefined || state.dead || commandLine === undefined) return undefined
    const ours =
      (directory === data && /(^|\/)postgres(:|$)/.test(commandLine[0] ?? '')) ||
      commandLine[0]?.startsWith(title) === true ||
      (commandLine[1] === '-D' && commandLine[2] === data) ||
      commandLine.some((word) => word.includes(restoreScript) || word.startsWith(`${wal}/`))
    return ours ? { pid, startTime: state.startTime } : undefined
  })
}

/** Whether that very process still runs; a zombie does not. */
export async function isRunning(process: ServerProcess): Promise<boolean> {
  const state = await processState(process.pid)
  return state !== undefined && !state.dead && state.startTime === process.startTime
}

/** When the process started, in clock ticks since boot. */
export async function startTimeOf(pid: number): Promise<string | undefined> {
  return (await processState(pid))?.startTime
}

async function eachProcess<T>(uid: number, look: (pid: number) => Promise<T | undefined>): Promise<T[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const found = await Promise.all(pids.filter((pid) => ownerOf(pid) === uid).map(look))
  return found.filter((each) => each !== undefined)
}

/** The effective user of a process. Answered from memory at once, so a thread pool's round trip would only cost. */
function ownerOf(pid: number): number | undefined {
  return lstatSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid
}

async function commandLineOf(pid: number): Promise<string[] | undefined> {
  return (await readProc(`${pid}/cmdline`))?.split('\0')
}

async function processState(pid: number): Promise<ProcessState | undefined> {
  const stat = await readProc(`${pid}/stat`)
  if (stat === undefined) return undefined
  // The second field is the program's name in parentheses and may itself contain blanks and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const startTime = fields[19]
  if (startTime === undefined) return undefined
  return { pid, startTime, parent: Number(fields[1]), dead: fields[0] === 'Z' || fields[0] === 'X' }
}

async function readProc(path: string): Promise<string | undefined> {
  return readFile(`/proc/${path}`, 'utf8').catch(() => undefined)
}
