/**
 * Measures a warm published instance beside the same data in a directory on the disk of its write cache: restored from
 * the same backup, started with the published instance's own settings.
 */
import { execFile } from 'node:child_process'
import { chown, mkdir, mkdtemp, rm } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { postgresAccount } from '../../support/postgres-cluster.ts'
import { type Figure, formatNumber, median } from '../figure.ts'
import { processorSeconds } from '../machine.ts'
import {
  expectSameSettings,
  type PgbenchResult,
  pgbench,
  query,
  type Server,
  settingsOf,
  startPostgres,
  timed,
  untilAnswered,
} from '../postgres.ts'
import type { Scope } from '../scope.ts'
import { inTurns, type Turns } from '../turns.ts'
import { NOTES, type StockedProduction, type Workshop } from '../workshop.ts'

const LOCAL = 'a local directory'
const LARGEST = 'pgbench_accounts'

export async function instance(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const { amounts } = workshop
  const production = await workshop.production(amounts.small)
  const fleet = await startFleet({
    repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    target: { log: { level: 'info' } },
  })
  scope.defer('the agents', () => fleet.remove())
  const published = await publishedServer(fleet, production)
  const local = await restoredServer(scope, production, await settingsOf(published))
  await untilAnswered(scope, published, 'SHOW fsync', 'on')
  await expectSameSettings(published, local)
  workshop.say('  warming both …')
  for (const server of [published, local]) await warm(server)
  const sides = [published, local] as const
  const costs = mountCosts(await mountProcessOf(published))
  const turns = (what: string, count: number) => ({ workshop, scope, what, count })
  const readOnly = await inTurns(turns('pgbench read-only', amounts.turns), sides, async (server) => {
    const run = () => pgbench(server, amounts.readOnlySeconds, ['-S'])
    return (await (server === published ? costs.watch('read-only', run) : run())).rate
  })
  const scan = async (workers: number) =>
    inTurns(turns(`count(*), ${workers} workers`, amounts.turns + 2), sides, (server) =>
      timed(server, `SELECT count(*) FROM ${LARGEST};`, `SET max_parallel_workers_per_gather = ${workers};`),
    )
  const alone = await scan(0)
  const parallel = await scan(2)
  const checkpoints = { howdah: [] as number[], instead: [] as number[] }
  for (const server of sides) await query(server, 'CHECKPOINT')
  const tpcb = await inTurns(turns('pgbench TPC-B', amounts.turns), sides, async (server) => {
    const run = () => pgbench(server, amounts.tpcbSeconds)
    const { rate } = await (server === published ? costs.watch('TPC-B', run) : run())
    // What one side left dirty must not be written while the other is measured.
    checkpoints[server === published ? 'howdah' : 'instead'].push(await timed(server, 'CHECKPOINT;'))
    return rate
  })
  workshop.note(`processor time of the mount process, per transaction: ${costs.said()}`)
  const figure = (name: string, unit: Figure['unit'], values: Turns, limit?: number): Figure => ({
    name,
    unit,
    better: unit === 's' ? 'less' : 'more',
    howdah: values.howdah,
    instead: { what: LOCAL, values: values.instead },
    ...(limit !== undefined && { target: { of: 'ratio', limit } }),
  })
  return [
    figure('pgbench read-only, warm', '/s', readOnly, 0.95),
    figure('pgbench TPC-B', '/s', tpcb, 0.9),
    figure('checkpoint after TPC-B', 's', checkpoints),
    figure('count(*) of the largest table, second run', 's', alone, 0.95),
    figure('the same with 2 parallel workers', 's', parallel, 0.95),
  ]
}

async function publishedServer(fleet: Fleet, production: StockedProduction): Promise<Server> {
  const session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
  if (session.connection === undefined) throw new Error(`${session.id} has no connection`)
  const { host, port, user } = session.connection
  return { host, port, user, database: production.database }
}

/** The mount process of a published instance, which it names in its settings: `howdah-SESSION`. */
async function mountProcessOf(server: Server): Promise<number> {
  const session = (await query(server, 'SHOW cluster_name')).replace(/^howdah-/, '')
  const found = await promisify(execFile)('pgrep', ['-f', `^howdah mount ${session}$`])
  return Number(found.stdout)
}

/** Processor time of the mount process by kind of pgbench run. */
function mountCosts(pid: number) {
  const microseconds = new Map<string, number[]>()
  return {
    async watch(kind: string, run: () => Promise<PgbenchResult>): Promise<PgbenchResult> {
      const before = processorSeconds(pid)
      const result = await run()
      const each = ((processorSeconds(pid) - before) * 1e6) / result.transactions
      microseconds.set(kind, [...(microseconds.get(kind) ?? []), each])
      return result
    },
    said: () =>
      [...microseconds].map(([kind, values]) => `${kind} ${formatNumber(median(values))} µs`).join(', '),
  }
}

async function restoredServer(
  scope: Scope,
  production: StockedProduction,
  settings: ReadonlyMap<string, string>,
): Promise<Server> {
  const account = await postgresAccount()
  const directory = await mkdtemp('/var/tmp/howdah-bench-local-')
  scope.defer(directory, () => rm(directory, { recursive: true, force: true }))
  const data = path.join(directory, 'data')
  await mkdir(data, { mode: 0o700 })
  for (const made of [directory, data]) await chown(made, account.uid, account.gid)
  await production.pgbackrest('restore', `--pg1-path=${data}`, '--process-max=2', '--archive-mode=off')
  const server = await startPostgres(scope, { data, directory, database: production.database, settings })
  const text = 'SELECT count(*) FROM notes WHERE NOT pg_is_in_recovery()'
  await untilAnswered(scope, server, text, String(NOTES))
  return server
}

/** Reads every table and index through the file system once. */
async function warm(server: Server): Promise<void> {
  await query(
    server,
    `SELECT sum(pg_prewarm(oid, 'read')) FROM pg_class WHERE relkind IN ('r', 'i') AND relname LIKE 'pgbench%'`,
  )
  await query(server, `SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM ${LARGEST}`)
}
