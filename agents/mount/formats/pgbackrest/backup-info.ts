/** backup.info: the backups of a stanza, as summaries. */
import type { BackupSummary } from '../../../../messages/values.ts'
import { oldestFirst } from '../../backup-order.ts'
import type { Passphrase } from '../../decode/aes-cbc.ts'
import { digits, MalformedInfo, parseObject, passphraseOf, readInfo } from './ini.ts'

/** What "pgbackrest info" reports as "error(s) detected during backup". */
const PAGE_ERRORS =
  'pgBackRest found pages with wrong checksums when it took this backup: what is in them cannot be read'

const LABEL = /^\d{8}-\d{6}F(_\d{8}-\d{6}[DI])?$/
const TYPES = { full: 'full', diff: 'differential', incr: 'incremental' } as const

export interface BackupInfo {
  /** Oldest first. */
  readonly backups: readonly BackupSummary[]
  /** Labels of the backups that contain the WAL that they need (archive-copy). */
  readonly withWal: ReadonlySet<string>
  /** Of the manifests; undefined where they are not encrypted. */
  readonly passphrase: Passphrase | undefined
}

/** @throws MalformedInfo */
export function parseBackupInfo(bytes: Buffer): BackupInfo {
  const current: { label: string; value: string }[] = []
  const clusters = new Map<string, { version: string; systemIdentifier: string | undefined }>()
  let passphrase: Passphrase | undefined
  readInfo(bytes, (section, key, value) => {
    if (section === 'cipher') passphrase = passphraseOf(key, value) ?? passphrase
    else if (section === 'backup:current') current.push({ label: key, value })
    else if (section === 'db:history') {
      clusters.set(key, {
        version: text(parseObject(key, value)['db-version']) ?? '',
        systemIdentifier: digits(value, 'db-system-id'),
      })
    }
  })
  const withWal = new Set<string>()
  const backups = current.map(({ label, value }): BackupSummary => {
    if (!LABEL.test(label)) throw new MalformedInfo(`${JSON.stringify(label)} is no backup label`)
    const entry = parseObject(label, value)
    if (entry['option-archive-copy'] === true) withWal.add(label)
    const cluster = clusters.get(String(entry['db-id']))
    if (cluster === undefined) throw new MalformedInfo(`${label} is of a cluster that is not listed`)
    const type = TYPES[text(entry['backup-type']) as keyof typeof TYPES]
    if (type === undefined) throw new MalformedInfo(`${label} has no known type`)
    const startWal = segment(entry['backup-archive-start'])
    const stopWal = segment(entry['backup-archive-stop'])
    return {
      label,
      type,
      postgresVersion: cluster.version,
      ...present('startedAt', time(entry['backup-timestamp-start'])),
      ...present('stoppedAt', time(entry['backup-timestamp-stop'])),
      ...present('bytes', count(entry['backup-info-size'])),
      ...present('repositoryBytes', count(entry['backup-info-repo-size'])),
      ...present('parent', text(entry['backup-prior'])),
      ...present('systemIdentifier', cluster.systemIdentifier),
      ...present('startLsn', text(entry['backup-lsn-start'])),
      ...present('stopLsn', text(entry['backup-lsn-stop'])),
      ...present('timeline', timelineOf(stopWal ?? startWal)),
      ...present('startWal', startWal),
      ...present('stopWal', stopWal),
      ...(entry['option-online'] === false && { offline: true }),
      ...present('unusable', unusable(entry)),
      ...(entry['backup-error'] === true && { warnings: [PAGE_ERRORS] }),
    }
  })
  return {
    backups: oldestFirst(backups),
    withWal,
    passphrase,
  }
}

/** `{name: value}`, or nothing where there is no value. */
function present<K extends string, V>(name: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { [P in K]?: V })
}

const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined)
const count = (value: unknown) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined
const segment = (value: unknown) =>
  typeof value === 'string' && /^[0-9A-F]{24}$/.test(value) ? value : undefined
const timelineOf = (wal: string | undefined) =>
  wal === undefined ? undefined : Number.parseInt(wal.slice(0, 8), 16)

/** From seconds since the epoch. */
function time(value: unknown): string | undefined {
  const seconds = count(value)
  return seconds === undefined || seconds > 253_402_300_799
    ? undefined
    : new Date(seconds * 1000).toISOString()
}

function unusable(entry: Readonly<Record<string, unknown>>): string | undefined {
  if (entry['option-online'] === false) return undefined
  if (text(entry['backup-archive-start']) === undefined) {
    return 'it was taken online but names no WAL, so it cannot be made consistent'
  }
  return undefined
}
