/** Owns what the bench knows about the machine, and its caches. */
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { promisify } from 'node:util'
import { POSTGRES_BIN } from '../support/postgres-cluster.ts'

const run = promisify(execFile)
const DEADLINE_MS = 120_000

export interface Machine {
  readonly processors: string
  readonly memory: string
  readonly kernel: string
  readonly postgresql: string
  readonly node: string
  /** The file system of the bench's directories. */
  readonly disk: string
}

export function describeMachine(): Machine {
  const processors = cpus()
  return {
    processors: `${processors.length} × ${processors[0]?.model.trim() ?? 'unknown'}`,
    memory: `${Math.round(totalmem() / 1024 ** 3)} GiB`,
    kernel: release(),
    postgresql: /[\d.]+/.exec(execFileSync(`${POSTGRES_BIN}/postgres`, ['--version']).toString())?.[0] ?? '',
    node: process.versions.node,
    disk: execFileSync('findmnt', ['-n', '-o', 'FSTYPE,SOURCE', '-T', '/var/tmp']).toString().trim(),
  }
}

export function machineLine(machine: Machine): string {
  const { processors, memory, kernel, postgresql, node, disk } = machine
  return `${processors}, ${memory}; Linux ${kernel}; PostgreSQL ${postgresql}; Node ${node}; ${disk}`
}

/** Writes out what is dirty and drops the page cache, dentries and inodes (proc(5), drop_caches). Needs root. */
export async function dropCaches(): Promise<void> {
  await run('sync', [], { timeout: DEADLINE_MS })
  await writeFile('/proc/sys/vm/drop_caches', '3')
}

/** Writes out what is dirty of a file. */
export async function syncFile(file: string): Promise<void> {
  await run('sync', [file], { timeout: DEADLINE_MS })
}

/** Reads a file, into the page cache. */
export async function warm(file: string): Promise<void> {
  await run('sh', ['-c', 'exec cat "$1" > /dev/null', 'sh', file], { timeout: DEADLINE_MS })
}

/** Resident memory of a process, MiB (proc(5), status). */
export function residentMib(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1]) / 1024
}

/** Seconds of processor time that a process has used, all its threads together (proc(5), stat; 100 ticks a second). */
export function processorSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
  return (Number(user) + Number(system)) / 100
}
