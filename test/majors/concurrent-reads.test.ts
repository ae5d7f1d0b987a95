/**
 * PostgreSQL 18 reads asynchronously: its I/O workers ask the mount for many blocks at once. All of these requests must be
 * at the mount server at the same time, or the workers would only wait for each other.
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { askControl, type MountStatus } from '../../agents/target/mount-process/control-socket.ts'
import { cachePaths } from '../../agents/target/mount-process/mount-spec.ts'
import type { SessionView } from '../../messages/values.ts'
import { sampleOf, scrape } from '../monitoring/scrape.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { configurationFile } from '../support/fleet-configuration.ts'
import { DATABASE, type MajorProduction, makeMajorProduction } from '../support/major-production.ts'
import { poll } from '../support/poll.ts'
import { binariesOf } from '../support/postgres-majors.ts'
import { type Endpoint, type SlowLink, startSlowLink } from '../support/slow-link.ts'

const WORKERS = 16
/** Where the target reaches the data plane of the mount agent, and how far away that is during the scan. */
const NEAR = '127.0.0.2'
const FAR_MS = 200
const LOOK_MS = 10
const QUIET_LOOKS = 100
/** 2,000 blocks of two rows; the rows of one key are 25 blocks apart, too far for anybody's read-ahead. */
const TABLE = `CREATE TABLE scattered (key int, body text);
  ALTER TABLE scattered ALTER body SET STORAGE PLAIN;
  INSERT INTO scattered SELECT i % 50, repeat(md5(i::text), 110) FROM generate_series(0, 3999) i;
  CREATE INDEX by_key ON scattered (key); VACUUM (FREEZE, ANALYZE) scattered`

async function dataPlaneOf({ directory }: Fleet): Promise<Endpoint> {
  const file = await readFile(configurationFile(directory, 'mount-agent'), 'utf8')
  return (JSON.parse(file) as { dataPlane: Endpoint }).dataPlane
}

describe('reads of a published PostgreSQL 18 with I/O workers', function () {
  this.timeout(120_000)
  let production: MajorProduction
  let fleet: Fleet
  let session: SessionView
  let link: SlowLink
  let failed = false

  before(async () => {
    production = await makeMajorProduction({
      version: '18',
      initdb: ['--locale=C.UTF-8'],
      settings: {
        io_method: 'worker',
        io_workers: String(WORKERS),
        effective_io_concurrency: '64',
        shared_buffers: '64MB',
      },
      contents: [TABLE],
    })
    fleet = await startFleet({
      repositories: [production.repository],
      target: { postgres: { binaryDirectories: [binariesOf('18')] } },
    })
    const dataPlane = await dataPlaneOf(fleet)
    link = await startSlowLink({ host: NEAR, port: dataPlane.port }, dataPlane)
    await fleet.reconfigure('mount-agent', { dataPlane: { ...dataPlane, advertise: NEAR } })
    session = await fleet.publish(
      '--repository',
      production.repository.name,
      '--instance',
      production.instance,
    )
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    if (link) link.delay = 0
    await fleet?.remove(failed)
    await link?.close()
    await production?.remove()
  })

  it('are in flight by as many as there are workers while a bitmap scan waits for them', async () => {
    const { socket } = cachePaths(session.writeCache?.path ?? '')
    const inFlight = async () => (await askControl<MountStatus>(socket, 'status', 5_000)).fetchesInFlight ?? 0
    const bitmapScan = 'SET enable_seqscan = off; SET enable_indexscan = off;'
    const query = 'SELECT count(*), sum(length(body)) FROM scattered WHERE key = 42'
    const plan = await fleet.sql(session, `${bitmapScan} EXPLAIN ${query}`, DATABASE)
    expect(plan).to.include('Bitmap Heap Scan')
    // From now on nothing but the table is read from the mount server: neither catalogs nor the index, and not by the agent.
    const indexOnly = 'SET enable_seqscan = off; SET enable_bitmapscan = off;'
    await fleet.sql(session, `${indexOnly} SELECT count(*) FROM scattered WHERE key >= 0`, DATABASE)
    await fleet.sql(session, `${bitmapScan} ${query.replace('42', '7')}`, DATABASE)
    for (let quiet = 0; quiet < QUIET_LOOKS; await sleep(LOOK_MS))
      quiet = (await inFlight()) === 0 ? quiet + 1 : 0
    link.delay = FAR_MS
    let over = false
    const rows = fleet.sql(session, `${bitmapScan} ${query}`, DATABASE).finally(() => {
      over = true
    })
    let most = 0
    while (!over) {
      most = Math.max(most, await inFlight())
      await sleep(LOOK_MS)
    }
    expect(await rows).to.equal('80|281600')
    // A scan begins with one block, and asks for twice as many each time it has to wait.
    expect(most).to.be.at.least(WORKERS)
    link.delay = 0
    const scraped = await poll(
      async () => sampleOf(await scrape(fleet.metricsUrl('target-agent')), 'howdah_fetches_in_flight'),
      { deadlineMs: 30_000, failure: () => 'the metric is missing' },
    )
    expect(scraped).to.be.within(0, WORKERS * 4)
  })
})
