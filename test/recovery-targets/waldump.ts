/** PostgreSQL's own pg_waldump, which judges what was read of WAL. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { formatTime } from '../../agents/mount/recovery/recovery-target.ts'
import { formatLsn } from '../../agents/wal/lsn.ts'
import type { RecoveryStop } from '../../agents/wal/wal-records.ts'
import { POSTGRES_BIN } from '../support/postgres-cluster.ts'

/** Name and decoded bytes. */
export type NamedSegment = readonly [string, Buffer]

const run = promisify(execFile)

/** What pg_waldump prints of segments that follow each other. */
export async function waldump(segments: readonly NamedSegment[], scratch: string): Promise<string> {
  const directory = await mkdtemp(join(scratch, 'wal-'))
  for (const [name, bytes] of segments) await writeFile(join(directory, name), bytes)
  const names = segments.map(([name]) => name)
  // It fails where the WAL ends, after it printed all of it.
  const { stdout } = await run(
    join(POSTGRES_BIN, 'pg_waldump'),
    ['-p', directory, names.at(0) ?? '', names.at(-1) ?? ''],
    { maxBuffer: 1024 ** 3, env: { ...process.env, TZ: 'UTC' } },
  ).catch((error: { stdout: string }) => error)
  await rm(directory, { recursive: true })
  return stdout
}

/** A line for each commit, abort and restore point, as `stopLine` writes it. */
export async function dumpedStops(segments: readonly NamedSegment[], scratch: string): Promise<string[]> {
  const lines: string[] = []
  for (const text of (await waldump(segments, scratch)).split('\n')) {
    const [, lsn, kind, rest = ''] =
      / lsn: (\S+), prev \S+, desc: (COMMIT|ABORT|RESTORE_POINT)(?:_PREPARED)? ?(.*)$/.exec(text) ?? []
    if (lsn === undefined || kind === undefined) continue
    const [, at] = /(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ UTC)/.exec(rest) ?? []
    const time = at?.replace(/\.?0+ UTC/, ' UTC')
    lines.push(kind === 'RESTORE_POINT' ? `point ${lsn} ${rest}` : `${kind.toLowerCase()} ${lsn} ${time}`)
  }
  return lines
}

export function stopLine(stop: RecoveryStop): string {
  const rest = stop.kind === 'point' ? stop.name : formatTime(stop.time)
  return `${stop.kind} ${paddedLsn(stop.lsn)} ${rest}`
}

/** As pg_waldump writes it. */
export function paddedLsn(lsn: bigint): string {
  const [high = '', low = ''] = formatLsn(lsn).split('/')
  return `${high}/${low.padStart(8, '0')}`
}
