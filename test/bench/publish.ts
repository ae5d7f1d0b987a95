/**
 * How long until the first answered query: `howdah publish` beside `pgbackrest restore --process-max=2` and a start of
 * PostgreSQL, on the same repository in the same run. Sizes as pgbench scales: `SCALES=100,400` (1.5 GB and 6 GB).
 */
import { execFile } from 'node:child_process'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import type { SessionView } from '../../messages/definitions.ts'
import { stopTestBroker } from '../support/broker.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { POSTGRES_BIN, postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'

const RUNS = 5
const SCALES = (process.env.SCALES ?? '100,400').split(',').map(Number)

interface Published {
  readonly seconds: number
  readonly session: SessionView
}

try {
  for (const scale of SCALES) await measure(scale)
} finally {
  await stopTestBroker()
}

async function measure(scale: number): Promise<void> {
  process.stderr.write(`making a production of pgbench scale ${scale} and its backup …\n`)
  const production = await makeProduction({
    scale,
    compress: 'gz',
    settings: { fsync: 'on', autovacuum: 'off' },
  })
  let fleet: Fleet | undefined
  try {
    // As after any night: without it, either way would first replay the WAL of vacuuming what was just loaded.
    await production.sql('VACUUM (FREEZE, ANALYZE)')
    await production.sql('CHECKPOINT')
    await production.backup('full')
    await production.writeNotes(10_000, 'after the backup')
    await production.switchWal()
    await production.stop()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
    const first = await publishOnce(fleet, production)
    const publishes: Published[] = []
    const restores: number[] = []
    for (let run = 0; run < RUNS; run++) {
      restores.push(await restoreOnce(production))
      publishes.push(await publishOnce(fleet, production))
    }
    report(scale, first, publishes, restores)
  } finally {
    await fleet?.remove()
    await production.remove()
  }
}

/** From the start of the command to the answer of the first query, both as programs that a person would run. */
async function publishOnce(fleet: Fleet, production: Production): Promise<Published> {
  const started = performance.now()
  const session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
  const notes = await fleet.sql(session, 'SELECT count(*) FROM notes', production.database)
  const seconds = (performance.now() - started) / 1000
  if (notes !== '11000') throw new Error(`the published instance has ${notes} notes, not 11000`)
  const shown = await fleet.show(session.id)
  await fleet.howdahJson('unpublish', session.id)
  return { seconds, session: shown }
}

async function restoreOnce(production: Production): Promise<number> {
  const account = await postgresAccount()
  const directory = path.join(production.directory, 'restored')
  const data = path.join(directory, 'data')
  const sockets = path.join(directory, 'sockets')
  for (const made of [directory, data, sockets]) {
    await mkdir(made, { recursive: true, mode: 0o700 })
    await promisify(execFile)('chown', [account.name, made])
  }
  const server = ['-D', data, '-w', '-s', '-t', '600']
  try {
    const started = performance.now()
    await production.pgbackrest(
      'restore',
      `--pg1-path=${data}`,
      '--process-max=2',
      `--tablespace-map-all=${path.join(directory, 'tablespaces')}`,
      '--archive-mode=off',
    )
    const options = `-c unix_socket_directories=${sockets} -c listen_addresses=`
    await runAs(account, `${POSTGRES_BIN}/pg_ctl`, [
      'start',
      ...server,
      '-l',
      path.join(directory, 'log'),
      '-o',
      options,
    ])
    const where = ['-X', '-A', '-t', '-h', sockets, '-p', String(production.port), '-U', account.name]
    // It answers while it still recovers; publishing ends with the promoted instance, and so does this.
    const query = 'SELECT count(*) FROM notes WHERE NOT pg_is_in_recovery()'
    let notes = ''
    for (let tries = 0; tries < 1000 && notes.trim() !== '11000'; tries++) {
      notes = await runAs(account, 'psql', [...where, '-d', production.database, '-c', query])
    }
    const seconds = (performance.now() - started) / 1000
    if (notes.trim() !== '11000') throw new Error(`the restored instance has ${notes} notes, not 11000`)
    return seconds
  } finally {
    await runAs(account, `${POSTGRES_BIN}/pg_ctl`, ['stop', '-D', data, '-m', 'immediate', '-s']).catch(
      () => undefined,
    )
    await rm(directory, { recursive: true, force: true })
  }
}

function report(
  scale: number,
  first: Published,
  publishes: readonly Published[],
  restores: readonly number[],
): void {
  const published = publishes.map(({ seconds }) => seconds)
  const middle = publishes[publishes.length >> 1] ?? first
  const { usage } = middle.session
  const lines = [
    '',
    `pgbench scale ${scale}, ${((usage?.totalBytes ?? 0) / 1e9).toFixed(2)} GB, pgBackRest gz; command to first answered query, seconds`,
    `  ${'pgbackrest restore --process-max=2 + start'.padEnd(44)} ${spread(restores)}`,
    `  ${'howdah publish'.padEnd(44)} ${spread(published)}   first of all: ${first.seconds.toFixed(2)}`,
    `  ${'ratio of the medians'.padEnd(44)} ${(median(restores) / median(published)).toFixed(1)} ×`,
    `  fetched ${((usage?.fetchedBytes ?? 0) / 1e6).toFixed(1)} MB of ${((usage?.totalBytes ?? 0) / 1e6).toFixed(1)} MB`,
    '  where the time goes, one publish of these:',
    ...middle.session.steps.map(({ step, startedAt, finishedAt }) => {
      const ms = Date.parse(finishedAt ?? startedAt) - Date.parse(startedAt)
      return `    ${step.padEnd(12)} ${String(ms).padStart(5)} ms`
    }),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

function spread(values: readonly number[]): string {
  const shown = [Math.min(...values), median(values), Math.max(...values)].map((value) => value.toFixed(2))
  return `min ${shown[0]}  median ${shown[1]}  max ${shown[2]}`
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN
}
