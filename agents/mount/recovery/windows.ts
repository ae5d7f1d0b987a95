/** What an instance can be recovered to: the windows of all its archives, and their description for messages. */
import type { BackupSummary, RecoverableWindow } from '../../../messages/values.ts'
import { lsnOf } from '../../wal/lsn.ts'
import type { Instance } from '../repository.ts'
import { type ArchiveKnowledge, openInstanceArchive } from './instance-archive.ts'
import { formatTime } from './recovery-target.ts'

export interface InstanceWindows {
  readonly windows: RecoverableWindow[]
  /** What a DBA should know about the archives. */
  readonly remarks: string[]
}

/** @param backups of the instance, oldest first. @throws HowdahError as `Instance.wal` and `WalArchive` */
export async function instanceWindows(
  instance: Instance,
  backups: readonly BackupSummary[],
  knowledge: ArchiveKnowledge,
): Promise<InstanceWindows> {
  const groups = new Map<string, BackupSummary[]>()
  for (const backup of backups) {
    if (backup.unusable !== undefined || backup.startWal === undefined) continue
    const { id } = await instance.wal(backup)
    const group = groups.get(id)
    if (group === undefined) groups.set(id, [backup])
    else group.push(backup)
  }
  const windows: RecoverableWindow[] = []
  const remarks = new Set<string>()
  for (const group of groups.values()) {
    const [first] = group
    if (first === undefined) continue
    const archive = await openInstanceArchive(instance, first, knowledge)
    for (const remark of archive.remarks) remarks.add(remark)
    for (const window of await archive.windows(group)) join(windows, window)
  }
  return { windows, remarks: [...remarks] }
}

/** Backups that contain WAL may all be recovered further with the same archive: that is one window. */
function join(windows: RecoverableWindow[], next: RecoverableWindow): void {
  const index = windows.findIndex(
    (one) =>
      one.timeline === next.timeline &&
      one.toLsn === next.toLsn &&
      one.to === next.to &&
      one.missingWal === next.missingWal &&
      (lsnOf(one.fromLsn) ?? 0n) <= (lsnOf(next.fromLsn) ?? 0n),
  )
  const known = windows[index]
  if (known === undefined || known.backups.some((label) => next.backups.includes(label))) windows.push(next)
  else windows[index] = { ...known, backups: [...known.backups, ...next.backups] }
}

const SHOWN = 3

/** `the archive of main/shop reaches from 2026-11-22 06:02:11 UTC to 14:02:11 UTC (last commit)`. */
export function describeWindows(name: string, windows: readonly RecoverableWindow[]): string {
  if (windows.length === 0) return `the archive of ${name} makes no backup recoverable`
  const shown = windows.slice(-SHOWN)
  const older = windows.length - shown.length
  const timelines = new Set(windows.map(({ timeline }) => timeline))
  const spans = shown.map((window) => {
    const onTimeline = timelines.size > 1 ? ` on timeline ${window.timeline}` : ''
    const until = window.missingWal === undefined ? '' : `, where WAL segment ${window.missingWal} is missing`
    return `from ${describeSpan(window)}${onTimeline}${until}`
  })
  return `the archive of ${name} reaches ${spans.join('; ')}${older > 0 ? `; and ${older} older spans` : ''}`
}

function describeSpan({ from, to, toLsn }: RecoverableWindow): string {
  const begin = inUtc(from)
  if (to === undefined) return `${begin} to LSN ${toLsn} (no later commit is known)`
  const end = inUtc(to)
  const sameDay = begin.slice(0, 11) === end.slice(0, 11)
  return `${begin} to ${sameDay ? end.slice(11) : end} (last commit)`
}

/** Formats ISO 8601 in UTC, with or without microseconds, for messages. */
export function inUtc(iso: string): string {
  const fraction = /\.(\d{1,6})/.exec(iso)?.[1] ?? ''
  const seconds = Math.floor(Date.parse(iso) / 1000)
  return formatTime(seconds * 1_000_000 + Number(fraction.padEnd(6, '0')))
}
