/**
 * The chapters of the demo: a production and its backup, publishing, changes, and the proof that the repository is
 * unchanged. Starts and stops nothing but the production and sessions that it is given.
 */
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { formatDuration } from '../../coordinator/cli/format.ts'
import { formatBytes } from '../../messages/format-bytes.ts'
import type { SessionView, Usage } from '../../messages/values.ts'
import type { Production } from '../support/production.ts'
import type { Howdah } from './howdah.ts'
import type { Narration } from './narration.ts'
import { connectTo, type Published } from './published.ts'
import { printTree, type TreePrint } from './repository-print.ts'

const run = promisify(execFile)

export const STANZA = 'shop'
export const REPOSITORY = 'production'

/** The small tables; counted in production and in the published instance. */
const COUNTS = `select (select count(*) from pgbench_tellers), (select count(*) from archived_orders),
  (select count(*) from notes), (select count(*) from notes where note like 'after the backup%')`
/** Reads the whole of the large table: no index has the column. */
const ACCOUNTS = 'select count(abalance) from pgbench_accounts'
/** How long a figure of `howdah show` may lag behind. */
const USAGE_MS = 30_000

interface Counts {
  readonly tellers: string
  readonly orders: string
  readonly notes: string
  readonly notesAfterBackup: string
}

function parseCounts(line: string): Counts {
  const [tellers = '', orders = '', notes = '', notesAfterBackup = ''] = line.split('|')
  return { tellers, orders, notes, notesAfterBackup }
}

const countFacts = ({ tellers, orders, notes, notesAfterBackup }: Counts) =>
  [
    ['tellers (pgbench)', grouped(tellers)],
    ['orders (in a tablespace)', grouped(orders)],
    ['notes', `${grouped(notes)}, ${notesAfterBackup} of them after the backup`],
  ] as const

const grouped = (digits: string) => digits.replace(/\B(?=(\d{3})+$)/g, ',')
const digest = ({ sha256 }: TreePrint) => `${sha256.slice(0, 16)}…${sha256.slice(-8)}`

export interface MadeProduction {
  readonly production: Production
  readonly counts: Counts
  readonly accounts: string
  readonly print: TreePrint
}

/** Backs the production up, writes to it, shuts it down, and takes the fingerprint of its repository. */
export async function backUp(narration: Narration, production: Production): Promise<MadeProduction> {
  // Like a production that has run for a while; otherwise the first reader of each page would write it (hint bits).
  const accounts = await narration.step('Vacuumed, as autovacuum would in time', async () => {
    await production.sql('vacuum (freeze, analyze)')
    return production.sql(ACCOUNTS)
  })
  await narration.step('Full backup by pgBackRest, gzip', () => production.backup('full'))
  await narration.step('500 rows written after the backup, WAL archived', async () => {
    await production.writeNotes(500, 'after the backup')
    await production.switchWal()
  })
  const counts = parseCounts(await production.sql(COUNTS))
  await narration.step('Production shut down: from here on only its repository counts', () =>
    production.stop(),
  )
  const print = await narration.step(
    ({ files, bytes }) =>
      `SHA-256 over the repository: ${grouped(String(files))} files, ${formatBytes(bytes)}`,
    () => printTree(production.path),
    'SHA-256 over the repository',
  )
  narration.facts([
    ['accounts (pgbench)', grouped(accounts)],
    ...countFacts(counts),
    ['repository', digest(print)],
  ])
  return { production, counts, accounts, print }
}

export interface PublishedSession {
  readonly session: SessionView
  readonly instance: Published
}

/** Publishes and compares the rows with production's. */
export async function publish(
  narration: Narration,
  howdah: Howdah,
  made: MadeProduction,
  signal: AbortSignal,
): Promise<PublishedSession> {
  narration.command('howdah backups')
  narration.output(await howdah.run('backups'))
  const args = ['publish', '--repository', REPOSITORY, '--instance', STANZA, '--target', 'local']
  narration.command(`howdah ${args.join(' ')}`)
  const begun = performance.now()
  const session = await narration.step(
    ({ id }) => `Published: session ${id}`,
    () => howdah.json<SessionView>(...args),
    'Publishing',
  )
  if (session.connection === undefined) throw new Error('the published session has no connection')
  for (const { step, startedAt, finishedAt, direction } of session.steps) {
    if (direction !== 'run' || finishedAt === undefined) continue
    narration.output(
      `${step.padEnd(10)} ${formatDuration(Date.parse(finishedAt) - Date.parse(startedAt)).padStart(8)}`,
    )
  }
  const instance = connectTo(session.connection, made.production.database, signal)
  const answer = await narration.step('First query answered', () => instance.sql(COUNTS))
  narration.paragraph(`From the command to the first answer: ${formatDuration(performance.now() - begun)}.`)
  const found = parseCounts(answer)
  narration.facts(countFacts(found))
  if (JSON.stringify(found) !== JSON.stringify(made.counts)) {
    throw new Error(
      `the published instance has other rows than production had: ${answer} instead of ${Object.values(made.counts).join('|')}`,
    )
  }
  narration.finding('The same rows as production had.')
  return { session, instance }
}

/** Changes the published instance; shows where the changes are, and that they are not in the repository. */
export async function change(
  narration: Narration,
  howdah: Howdah,
  made: MadeProduction,
  { session, instance }: PublishedSession,
): Promise<void> {
  const cache = session.writeCache?.path
  if (cache === undefined) throw new Error('the published session has no write cache')
  const show = () => howdah.json<SessionView>('show', session.id)
  const [shownBefore, usedBefore] = await Promise.all([show(), diskUsage(cache)])
  await narration.step('1,000 accounts updated', () =>
    instance.sql('update pgbench_accounts set abalance = abalance + 1 where aid <= 1000'),
  )
  await narration.step('A new table of 100,000 rows', () =>
    instance.sql(
      'create table made_on_the_mount as select i, md5(i::text) from generate_series(1, 100000) i',
    ),
  )
  await narration.step('Checkpoint', () => instance.sql('checkpoint'))
  const sum = await instance.sql(
    'select (select sum(abalance) from pgbench_accounts where aid <= 1000), (select count(*) from made_on_the_mount)',
  )
  if (sum !== '1000|100000') throw new Error(`the changes cannot be read back: ${sum} instead of 1000|100000`)
  const shown = await narration.step('The next report of the write cache has the changes', async () => {
    const size = Number(await instance.sql("select pg_table_size('made_on_the_mount')"))
    const enough = (shownBefore.writeCache?.bytes ?? 0) + size
    return await until(show, (view) => (view.writeCache?.bytes ?? 0) >= enough, 'writeCache.bytes to grow')
  })
  const used = await diskUsage(cache)
  if (used <= usedBefore) throw new Error(`the write cache did not grow: ${used} bytes after ${usedBefore}`)
  narration.facts([
    ['before, howdah show', formatBytes(shownBefore.writeCache?.bytes ?? 0)],
    ['before, du with pg_wal', formatBytes(usedBefore)],
    ['after, howdah show', formatBytes(shown.writeCache?.bytes ?? 0)],
    ['after, du with pg_wal', formatBytes(used)],
    ['where', cache],
  ])
  const print = await narration.step('SHA-256 over the repository once more', () =>
    printTree(made.production.path),
  )
  narration.facts([
    ['repository before', digest(made.print)],
    ['repository now', digest(print)],
  ])
  if (print.sha256 !== made.print.sha256) throw new Error('the repository has changed; it must never')
  narration.finding('Byte-identical: names, modes, times and contents of every file.')
}

/** Shows the session in the list, how little was fetched, and that reading fetches more. */
export async function showFetching(
  narration: Narration,
  howdah: Howdah,
  made: MadeProduction,
  { session, instance }: PublishedSession,
): Promise<void> {
  narration.command('howdah sessions')
  narration.output(await howdah.run('sessions'))
  narration.gap()
  const show = () => howdah.json<SessionView>('show', session.id)
  const { usage } = await show()
  if (usage === undefined) throw new Error('howdah show knows no usage of the published session')
  const showFetched = (text: string, { fetchedBytes, totalBytes }: Usage) => {
    const share = totalBytes === 0 ? 0 : fetchedBytes / totalBytes
    narration.paragraph(
      `${text}: ${formatBytes(fetchedBytes)} of ${formatBytes(totalBytes)} (${(100 * share).toFixed(1)} %)`,
    )
    narration.bar(share)
  }
  showFetched('Fetched from the repository for all this', usage)
  const accounts = await narration.step('Now every account is counted, which reads the whole table', () =>
    instance.sql(ACCOUNTS),
  )
  if (accounts !== made.accounts) {
    throw new Error(`the published instance has ${accounts} accounts, production had ${made.accounts}`)
  }
  const more = await until(
    show,
    (view) => (view.usage?.fetchedBytes ?? 0) > usage.fetchedBytes,
    'usage.fetchedBytes to grow',
  )
  showFetched(`${grouped(accounts)} accounts, as production had. Fetched`, more.usage ?? usage)
}

/** Polls until the answer is as wanted. @throws Error that names what was waited for */
async function until<T>(ask: () => Promise<T>, wanted: (answer: T) => boolean, what: string): Promise<T> {
  const deadline = Date.now() + USAGE_MS
  for (;;) {
    const answer = await ask()
    if (wanted(answer)) return answer
    if (Date.now() > deadline) throw new Error(`waited ${USAGE_MS / 1000} s for ${what}`)
    await sleep(250)
  }
}

/** Bytes on disk of a directory, as `du` counts them: a sparse file takes what it has. */
async function diskUsage(path: string): Promise<number> {
  // du reports files that vanish meanwhile as errors; its sum is still correct.
  const { stdout } = await run('du', ['-s', '--block-size=1', path]).catch((error: { stdout?: string }) => ({
    stdout: error.stdout ?? '',
  }))
  return Number(stdout.split('\t')[0] ?? 0)
}
