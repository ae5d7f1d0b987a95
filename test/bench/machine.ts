/** The machine that the figures are of, and its caches. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { POSTGRES_BIN } from '../support/postgres-cluster.ts'

export interface Machine {
  readonly processors: string
  readonly memory: string
  readonly kernel: string
  readonly postgresql: string
  readonly node: string
  /** The file system that everything of the bench is on. */
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
export function dropCaches(): void {
  execFileSync('sync')
  writeFileSync('/proc/sys/vm/drop_caches', '3')
}

/** Reads a file into the page cache. */
export function warm(file: string): void {
  execFileSync('cat', [file], { stdio: ['ignore', 'ignore', 'inherit'] })
}

/** Resident memory of a process, MiB (proc(5), status). */
export function residentMib(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1]) / 1024
}
