/**
 * A cluster with many databases: published, listed, changed, exported. Here it has 150; `npm run soak -- many-databases`
 * runs this with 5,000.
 */
import { readFileSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { expect } from 'chai'
import type { ExportView } from '../../messages/exports.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import type { Role } from '../support/fleet-roles.ts'
import { type ManyDatabases, makeManyDatabases } from '../support/many-databases.ts'
import { type MessageSizes, watchMessageSizes } from '../support/message-sizes.ts'
import { poll } from '../support/poll.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'

const DATABASES = Number(process.env.HOWDAH_TEST_DATABASES ?? 150)
/** Names that a message lists of the databases that were changed, and how many more are changed here. */
const [LISTED, MORE] = [100, 4]
const FIRST_OF_MANY = 20
const CLIENTS = 4
/** However many databases there are. Bytes. */
const LARGEST_MESSAGE = 4 * 1024
const LARGEST_SESSION = 64 * 1024

describe(`a cluster with ${DATABASES} databases`, function () {
  this.timeout(60_000 + DATABASES * 200)
  let databases: ManyDatabases
  let fleet: Fleet
  let sizes: MessageSizes
  let session: SessionView
  let directory = ''
  let changed: readonly string[] = []
  // Until everything exists.
  let failed = true
  const name = (index: number): string => databases.name(index)

  before(async () => {
    databases = await makeManyDatabases(DATABASES)
    const account = await postgresAccount()
    directory = await mkdtemp('/var/tmp/howdah-exports-')
    await chmod(directory, 0o711)
    await mkdir(path.join(directory, 'to'))
    await chown(path.join(directory, 'to'), account.uid, account.gid)
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'basebackup', path: databases.path }],
    })
    sizes = await watchMessageSizes(fleet)
    failed = false
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await sizes?.close()
    await fleet?.remove(failed)
    await databases?.remove()
    if (directory !== '') await rm(directory, { recursive: true, force: true })
  })

  const residentMib = (role: Role): number =>
    Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${fleet.pid(role)}/status`, 'utf8'))?.[1]) / 1024

  async function exportTo(to: string, ...args: string[]): Promise<ExportView> {
    return fleet.howdahJson<ExportView>('export', session.id, '--to', path.join(directory, 'to', to), ...args)
  }

  it('is checked and published, with its mount agent answering all the while', async () => {
    const at = ['--repository', 'main', '--instance', databases.instance]
    const check = await fleet.howdah('check', ...at, '--target', 'db-7')
    expect(check.status, check.stderr).to.equal(0)
    session = await fleet.publish(...at)
    expect(session.state).to.equal('published')
    const { history = [] } = await fleet.show(session.id)
    expect(history.filter(({ type }) => type === 'disruption')).to.deep.equal([])
    expect(await fleet.sql(session, 'SELECT count(*) FROM pg_database')).to.equal(String(DATABASES + 3))
    for (const index of [0, DATABASES >> 1, DATABASES - 1])
      expect(
        await fleet.sql(session, 'SELECT count(*), current_database() FROM orders', name(index)),
      ).to.equal(`10|${name(index)}`)
  })

  it('has exactly the databases as changed in which somebody wrote', async () => {
    const written = [3, 7, DATABASES - 2].map(name)
    for (const database of written)
      await fleet.sql(session, 'INSERT INTO orders SELECT i FROM generate_series(11, 20) i', database)
    await untilChanged(written)
  })

  it('exports one of them, and then those that are still changed', async () => {
    const one = await exportTo('one', '--database', name(7))
    expect(one.databases).to.have.length(1)
    expect(one.databases[0]).to.include({ database: name(7), status: 'done', rows: 20 })
    const rest = await exportTo('rest')
    expect(rest.databases.map(({ database }) => database)).to.deep.equal([3, DATABASES - 2].map(name))
  })

  it('lists some of many changed databases, and how many more there are', async () => {
    changed = Array.from({ length: LISTED + MORE }, (_, index) => name(FIRST_OF_MANY + index))
    // The first connection to each waits for the repository, in its turn.
    await Promise.all(
      Array.from({ length: CLIENTS }, (_, client) =>
        fleet.sql(
          session,
          changed
            .filter((_, index) => index % CLIENTS === client)
            .map((database) => `\\connect ${database}\nINSERT INTO orders VALUES (1000);`)
            .join('\n'),
        ),
      ),
    )
    await untilChanged(changed.slice(0, LISTED), MORE)
    const { stdout } = await fleet.howdah('show', session.id)
    expect(stdout).to.match(new RegExp(`${name(FIRST_OF_MANY)}, .*and ${MORE} more`, 's'))
  })

  it('exports some of them, with all of them in the manifest', async () => {
    const some = changed.slice(0, 4)
    const {
      databases: listed,
      totals,
      manifest = '',
    } = await exportTo('some', ...some.flatMap((database) => ['--database', database]))
    expect(totals).to.include({ databases: some.length, done: some.length, rows: 11 * some.length })
    expect(listed.length).to.be.greaterThan(0)
    const written = JSON.parse(await readFile(manifest, 'utf8')) as { databases: { database: string }[] }
    expect(written.databases.map(({ database }) => database)).to.deep.equal(some)
  })

  it('is an error with some names where a database of an export does not exist', async () => {
    const to = path.join(directory, 'to', 'none')
    const { status, stdout } = await fleet.howdah('export', session.id, '--database', 'tenant', '--to', to)
    expect(status).to.equal(1)
    expect(stdout).to.match(/there is no database of that name; there are postgres,.*and\s+\d+\s+more/s)
    expect(stdout.length).to.be.lessThan(4_000)
  })

  it('takes messages of a bounded size, and memory that does not grow with each', async () => {
    const all = [...sizes.largest()].sort(([, a], [, b]) => b - a)
    const view = JSON.stringify(await fleet.show(session.id))
    const memory = (['coordinator', 'mount-agent', 'target-agent'] as const).map(
      (role) => `${role} ${Math.round(residentMib(role))} MiB`,
    )
    console.log(`    largest messages: ${JSON.stringify(all.slice(0, 4))}; the session ${view.length} bytes`)
    console.log(`    most resident memory: ${memory.join(', ')}`)
    expect(all.map(([type]) => type)).to.include.members(['session.step-done', 'session.changes'])
    expect(all[0]?.[1]).to.be.lessThan(LARGEST_MESSAGE)
    expect(view.length).to.be.lessThan(LARGEST_SESSION)
    expect(residentMib('coordinator')).to.be.lessThan(250)
    expect(residentMib('target-agent')).to.be.lessThan(250)
  })

  it('is sound for the doctor, and goes away', async () => {
    const doctor = await fleet.howdah('doctor', '--target', 'db-7')
    expect(doctor.status, doctor.stdout).to.equal(0)
    const closed = await fleet.howdahJson<SessionView>('unpublish', session.id, '--yes')
    expect(closed.state).to.equal('closed')
  })

  /** The target looks for changes every ten seconds, and a client's counters are outstanding for a moment. */
  async function untilChanged(databases: readonly string[], more?: number): Promise<void> {
    const expected = { changed: databases.length > 0, databases, ...(more !== undefined && { more }) }
    let found: SessionView['changes']
    await poll(
      async () => {
        found = (await fleet.show(session.id)).changes
        return isDeepStrictEqual(found, expected) ? true : undefined
      },
      { deadlineMs: 40_000, everyMs: 200, failure: () => `the changes are ${JSON.stringify(found)}` },
    )
  }
})
