/** Owns runs of fio(1), which measures reads and writes of a file independently of Howdah. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

export interface FioJob {
  readonly file: string
  readonly rw: 'read' | 'randread' | 'write' | 'randwrite'
  readonly blockSize: '8k' | '1m'
  /** Clients at the same time. */
  readonly clients: number
  /** Bytes of the file that are used. */
  readonly size: number
  /** Bypass the page cache. */
  readonly direct?: boolean
  /** Run until the time is over; otherwise all clients together read or write `bytes`. */
  readonly seconds?: number
  readonly bytes?: number
  /** Seed of random blocks; the same number chooses the same blocks. */
  readonly seed?: number
  /** Each client has a part of the file of its own. */
  readonly apart?: boolean
}

export interface FioResult {
  /** Reads or writes per second. */
  readonly rate: number
  /** Bytes per second. */
  readonly bandwidth: number
}

interface FioReport {
  readonly jobs: readonly Record<'read' | 'write', { readonly iops: number; readonly bw_bytes: number }>[]
}

/** One system call at a time for each client, as PostgreSQL does it, and no advice to the kernel. */
export async function fio(job: FioJob): Promise<FioResult> {
  const { file, rw, blockSize, clients, size, direct = false, seconds, bytes, seed = 1, apart = false } = job
  const share = Math.floor(size / clients)
  const { stdout } = await promisify(execFile)(
    'fio',
    [
      ...['--name=bench', `--filename=${file}`, `--rw=${rw}`, `--bs=${blockSize}`, '--ioengine=psync'],
      ...[`--numjobs=${clients}`, '--thread', '--group_reporting', `--direct=${direct ? 1 : 0}`],
      ...['--fadvise_hint=0', '--invalidate=0', `--randseed=${seed}`, '--output-format=json'],
      ...(apart ? [`--size=${share}`, `--offset_increment=${share}`] : [`--size=${size}`]),
      ...(seconds === undefined ? [] : ['--time_based', `--runtime=${seconds}`]),
      ...(bytes === undefined ? [] : [`--io_size=${Math.floor(bytes / clients)}`]),
      ...(rw.endsWith('read') ? ['--readonly'] : ['--overwrite=1', '--fallocate=none']),
    ],
    { maxBuffer: 1024 ** 3, timeout: 300_000 },
  )
  // A warning may precede it.
  const report = JSON.parse(stdout.slice(stdout.indexOf('{'))) as FioReport
  const result = report.jobs[0]?.[rw.endsWith('read') ? 'read' : 'write']
  if (result === undefined) throw new Error(`fio reported nothing: ${stdout.slice(0, 200)}`)
  return { rate: result.iops, bandwidth: result.bw_bytes }
}
