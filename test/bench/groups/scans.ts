/**
 * Measures scans of a published instance by PostgreSQL 18, which reads asynchronously by its I/O workers, beside the same by
 * the machine's PostgreSQL: cold, from a mount server on this machine and from one that is some way away, and warm. Both
 * have the same rows, a base backup in tar format, and their own defaults.
 */
import { readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { startFleet } from '../../support/fleet.ts'
import { configurationFile } from '../../support/fleet-configuration.ts'
import { DATABASE, type MajorProduction, makeMajorProduction } from '../../support/major-production.ts'
import { POSTGRES_MAJOR } from '../../support/postgres-cluster.ts'
import { everyMajor } from '../../support/postgres-majors.ts'
import { type Endpoint, startSlowLink } from '../../support/slow-link.ts'
import type { Figure } from '../figure.ts'
import { dropCaches } from '../machine.ts'
import { query, type Server, timed } from '../postgres.ts'
import type { Scope } from '../scope.ts'
import { inTurns } from '../turns.ts'
import type { Workshop } from '../workshop.ts'

const ASYNCHRONOUS = '18'
/** Where targets reach the mount server. */
const NEAR = '127.0.0.2'
const FAR_MS = 5
const ROWS_PER_BLOCK = 2

interface Scan {
  readonly name: string
  readonly settings: string
  readonly query: string
}

const SCANS: readonly Scan[] = [
  {
    name: 'sequential scan',
    settings: 'SET max_parallel_workers_per_gather = 0;',
    query: 'SELECT count(*), sum(length(body)) FROM scanned;',
  },
  {
    name: 'bitmap scan of a tenth of the blocks',
    settings:
      'SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off; SET enable_indexscan = off;',
    query: 'SELECT count(*), sum(length(body)) FROM scanned WHERE key < 50;',
  },
]

export async function scans(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const { amounts } = workshop
  if (POSTGRES_MAJOR === ASYNCHRONOUS) {
    workshop.note(
      `scans: this machine's own PostgreSQL is ${ASYNCHRONOUS}, and there is nothing to compare it with`,
    )
    return []
  }
  const productions = new Map<string, MajorProduction>()
  for (const version of [ASYNCHRONOUS, POSTGRES_MAJOR]) {
    workshop.say(`  making a production of PostgreSQL ${version} and its backup …`)
    const made = await makeMajorProduction({
      ...{ version, initdb: ['--locale=C.UTF-8'], settings: {} },
      contents: [table(amounts.scannedBlocks)],
    })
    scope.defer('a production', () => made.remove())
    productions.set(version, made)
  }
  const fleet = await startFleet({
    repositories: [...productions.values()].map(({ repository }) => repository),
    target: {
      log: { level: 'info' },
      postgres: { binaryDirectories: everyMajor().map(({ binaries }) => binaries) },
    },
  })
  scope.defer('the agents', () => fleet.remove())
  const { dataPlane } = JSON.parse(
    await readFile(configurationFile(fleet.directory, 'mount-agent'), 'utf8'),
  ) as {
    dataPlane: Endpoint
  }
  const link = await startSlowLink({ host: NEAR, port: dataPlane.port }, dataPlane)
  scope.defer('the way to the mount server', () => link.close())
  await fleet.reconfigure('mount-agent', { dataPlane: { ...dataPlane, advertise: NEAR } })

  /** Publishes anew, scans once, and again. */
  async function scan(version: string, delay: number, { settings, query: text }: Scan) {
    const { repository, instance } = productions.get(version) ?? { repository: { name: '' }, instance: '' }
    link.delay = 0
    const session = await fleet.publish('--repository', repository.name, '--instance', instance)
    const server = serverOf(session.connection)
    // The catalogs that a query takes.
    await query(server, `${settings} EXPLAIN ${text}`)
    await dropCaches()
    link.delay = delay
    const cold = await timed(server, text, settings)
    const warm = await timed(server, text, settings)
    link.delay = 0
    await fleet.howdahJson('unpublish', session.id, '--yes')
    // Nothing that was fetched in one turn is used in another.
    await rm(path.join(fleet.cacheRoot, 'fetched'), { recursive: true, force: true })
    return { cold, warm }
  }

  const figures: Figure[] = []
  for (const one of SCANS) {
    const warm = { howdah: [] as number[], instead: [] as number[] }
    for (const [where, delay] of [
      ['', 0],
      [`, ${FAR_MS} ms away`, FAR_MS],
    ] as const) {
      const options = { workshop, scope, what: `${one.name}${where}`, count: amounts.turns }
      const cold = await inTurns(options, [ASYNCHRONOUS, POSTGRES_MAJOR], async (version) => {
        const measured = await scan(version, delay, one)
        warm[version === ASYNCHRONOUS ? 'howdah' : 'instead'].push(measured.warm)
        return measured.cold
      })
      figures.push(figure(`${one.name}, cold${where}`, cold))
    }
    figures.push(figure(`${one.name}, warm`, warm))
  }
  workshop.note(
    `scans: ${amounts.scannedBlocks * 8} KiB, published by PostgreSQL ${ASYNCHRONOUS} (io_method worker) beside ${POSTGRES_MAJOR}, each with its defaults`,
  )
  return figures
}

const table = (blocks: number): string => `CREATE TABLE scanned (key int, body text);
  ALTER TABLE scanned ALTER body SET STORAGE PLAIN;
  INSERT INTO scanned SELECT (i::bigint * 7919) % 1000, repeat(md5(i::text), 110) FROM generate_series(1, ${blocks * ROWS_PER_BLOCK}) i;
  CREATE INDEX ON scanned (key); VACUUM (FREEZE, ANALYZE) scanned`

function serverOf(connection: { host: string; port: number; user: string } | undefined): Server {
  if (connection === undefined) throw new Error('the session has no connection')
  const { host, port, user } = connection
  return { host, port, user, database: DATABASE }
}

const figure = (
  name: string,
  { howdah, instead }: { readonly howdah: readonly number[]; readonly instead: readonly number[] },
): Figure => ({
  ...{ name: `${name}, PostgreSQL ${ASYNCHRONOUS}`, unit: 's', better: 'less', howdah },
  instead: { what: `PostgreSQL ${POSTGRES_MAJOR}, published`, values: instead },
})
