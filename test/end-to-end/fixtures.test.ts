/**
 * Every fixture published at each of its backups, at each of its named restore points, and at the end of its WAL: the
 * tables hold exactly what they held then.
 */
import { readFileSync } from 'node:fs'
import { chmod, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { RepositoryConfig } from '../../config/formats.ts'
import type { RecoverTo, SessionView } from '../../messages/values.ts'
import { extractFixture, type Fixture } from '../repository/fixture.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { FIXTURE_BINARIES } from '../support/postgres-majors.ts'

const NAMES = ['block-zst-aes', 'block-lz4', 'plain-gz-incr', 'pg17-incremental'] as const
type Name = (typeof NAMES)[number]

/** The fixture's tables as expected.json describes them. */
const STATE = {
  orders: [
    'shop',
    "SELECT count(*) || ':' || md5(string_agg(id||note||customer, ',' ORDER BY id)) FROM orders",
  ],
  customers: ['shop', "SELECT count(*) || ':' || md5(string_agg(id||name, ',' ORDER BY id)) FROM customers"],
  facts: ['analytics', "SELECT count(*) || ':' || md5(string_agg(id||'-'||v, ',' ORDER BY id)) FROM facts"],
  extra: [
    'shop',
    "SELECT coalesce(string_agg(tablename, ',' ORDER BY tablename), '') FROM pg_tables WHERE tablename LIKE 'extra%'",
  ],
} as const

type State = Readonly<Record<string, string>>

interface Expected {
  readonly backups: readonly { readonly label: string; readonly state: State }[]
  readonly points: readonly {
    readonly name: string
    readonly time: string
    readonly lsn: string
    readonly state: State
  }[]
  readonly latest: State
}

/** One publish, and the contents that it must show. */
interface Sight {
  readonly backup?: string
  readonly recoverTo: RecoverTo
  readonly state: State
}

describe('the fixtures', function () {
  this.timeout(180_000)
  const fixtures = new Map<Name, Fixture>()
  let fleet: Fleet
  let failed = false

  before(async function () {
    const repositories: RepositoryConfig[] = []
    for (const name of NAMES) {
      const fixture = await extractFixture(name)
      if (fixture === undefined) return this.skip()
      fixtures.set(name, fixture)
      repositories.push(await configured(name, fixture))
    }
    fleet = await startFleet({
      repositories,
      target: { postgres: { binaryDirectories: FIXTURE_BINARIES } },
    })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    for (const { directory } of fixtures.values()) await rm(directory, { recursive: true, force: true })
  })

  /** The encrypted one by pgBackRest's own configuration, which knows no path of ours. */
  async function configured(name: Name, { directory, repository }: Fixture): Promise<RepositoryConfig> {
    if (name === 'pg17-incremental') return { name, format: 'basebackup', path: repository }
    if (name !== 'block-zst-aes') return { name, format: 'pgbackrest', path: repository }
    const configFile = join(directory, 'pgbackrest.conf')
    const text = readFileSync(configFile, 'utf8')
    await writeFile(configFile, text.replace('[global]\n', `[global]\nrepo1-path=${repository}\n`))
    await chmod(configFile, 0o600)
    return { name, format: 'pgbackrest', configFile }
  }

  function sightsOf(name: Name): Sight[] {
    const directory = fixtures.get(name)?.directory ?? ''
    const expected = JSON.parse(readFileSync(join(directory, 'expected.json'), 'utf8')) as Expected
    const oldest = expected.backups[0]?.label ?? ''
    return [
      ...expected.backups.map(({ label, state }) => ({
        backup: label,
        recoverTo: { type: 'immediate' } as const,
        state,
      })),
      // From the backup that Howdah chooses, and with the longest replay, from the oldest one.
      ...expected.points.map(({ name: value, state }, index) => ({
        ...(index % 2 === 0 ? { backup: oldest } : {}),
        recoverTo: { type: 'name', value } as const,
        state,
      })),
      { recoverTo: { type: 'latest' }, state: expected.latest },
    ]
  }

  async function publish(repository: Name, { backup, recoverTo }: Sight): Promise<SessionView> {
    const reply = await fleet.bus.request('instance.publish', {
      ...{ repository, instance: 'demo', target: 'db-7', recoverTo },
      ...(backup !== undefined && { backup }),
    })
    if (!reply.accepted) throw new Error(reply.error.message)
    return fleet.untilState(reply.session, 'published')
  }

  async function stateOf(session: SessionView): Promise<State> {
    const found: Record<string, string> = {}
    for (const [table, [database, query]] of Object.entries(STATE)) {
      found[table] = await fleet.sql(session, query, database)
    }
    return found
  }

  for (const name of NAMES) {
    it(`${name} has its contents of every backup and of every restore point`, async () => {
      const sights = sightsOf(name)
      const see = async () => {
        for (let sight = sights.shift(); sight !== undefined; sight = sights.shift()) {
          const session = await publish(name, sight)
          const what = `${sight.backup ?? 'the chosen backup'} at ${JSON.stringify(sight.recoverTo)}`
          expect(await stateOf(session), what).to.deep.equal(sight.state)
          await fleet.howdahJson('unpublish', session.id, '--yes')
        }
      }
      // Two at a time: a publish waits longer for its own processes than for a core.
      await Promise.all([see(), see()])
    })
  }
})
