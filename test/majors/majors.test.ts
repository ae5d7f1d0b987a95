/**
 * Clusters of every PostgreSQL major but the machine's, from 13 to 18, published from a backup each: with the server of
 * that major alone, without any other program of it.
 */
import { chown, mkdir, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { expect } from 'chai'
import type { CommandBody } from '../../messages/definitions.ts'
import type { SessionView } from '../../messages/values.ts'
import { directoryDigest } from '../support/digest.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { DATABASE, type MajorProduction, makeMajorProduction, ROWS } from '../support/major-production.ts'
import { poll } from '../support/poll.ts'
import { type Account, POSTGRES_MAJOR, postgresAccount } from '../support/postgres-cluster.ts'
import { binariesOf, OTHER_MAJORS } from '../support/postgres-majors.ts'
import { mountProcesses, postmasters } from '../support/session-processes.ts'
import { kindsOf, type TestedKind } from './kinds.ts'

type Recovery = keyof MajorProduction['moments']

describe('published clusters of other majors', function () {
  this.timeout(180_000)
  const productions = new Map<string, MajorProduction>()
  const digests = new Map<string, string>()
  let kinds: readonly TestedKind[] = []
  let fleet: Fleet
  let connections = 0
  let account: Account
  let failed = false
  const listener: Server = createServer((socket) => {
    connections++
    socket.destroy()
  })

  before(async () => {
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    account = await postgresAccount()
    const address = listener.address()
    kinds = kindsOf(typeof address === 'object' && address !== null ? address.port : 0)
    // In pairs: more at once would only wait for each other.
    const waiting = [...kinds]
    const make = async (): Promise<void> => {
      for (let kind = waiting.shift(); kind !== undefined; kind = waiting.shift())
        productions.set(kind.version, await makeMajorProduction(kind))
    }
    await Promise.all([make(), make()])
    for (const [version, { directory }] of productions) digests.set(version, directoryDigest(directory))
    fleet = await startFleet({
      repositories: [...productions.values()].map(({ repository }) => repository),
      target: { postgres: { binaryDirectories: OTHER_MAJORS.map(binariesOf) } },
    })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    for (const production of productions.values()) await production.remove()
    await new Promise((resolve) => listener.close(resolve))
  })

  function productionOf(version: string): MajorProduction {
    const production = productions.get(version)
    if (production === undefined) throw new Error(`there is no production of PostgreSQL ${version}`)
    return production
  }

  async function publish(
    version: string,
    options: Partial<CommandBody<'instance.publish'>>,
  ): Promise<SessionView> {
    const { repository, instance } = productionOf(version)
    const body = { repository: repository.name, instance, target: 'db-7', ...options }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    return fleet.untilState(reply.session, 'published')
  }

  const rows = (session: SessionView) => fleet.sql(session, ROWS, DATABASE)

  it('are listed as what the target can publish', async () => {
    const reply = await fleet.bus.request('agent.list', {})
    const target = reply.accepted ? reply.agents.find(({ kind }) => kind === 'target') : undefined
    expect(target?.postgresVersions).to.deep.equal(OTHER_MAJORS)
  })

  for (const version of OTHER_MAJORS) {
    describe(`PostgreSQL ${version}`, () => {
      const sessions = {} as Record<Recovery, SessionView>

      it("are published at the end of the backup, at a time and at the latest, with production's rows", async () => {
        const { moments } = productionOf(version)
        const [immediate, paused, latest] = await Promise.all([
          publish(version, { recoverTo: { type: 'immediate' } }),
          publish(version, { recoverTo: { type: 'time', value: moments.time.time }, afterRecovery: 'pause' }),
          publish(version, {}),
        ])
        Object.assign(sessions, { immediate, time: paused, latest })
        for (const moment of ['immediate', 'time', 'latest'] as const)
          expect(await rows(sessions[moment]), moment).to.equal(moments[moment].rows)
      })

      it('are the clusters that they were', async () => {
        const proofs = kinds.find((kind) => kind.version === version)?.proofs ?? {}
        for (const [query, answer] of Object.entries(proofs))
          expect(await fleet.sql(sessions.latest, query, DATABASE), query).to.equal(answer)
      })

      it('are read-only while paused, and writable when promoted', async () => {
        const paused = sessions.time
        const write = 'CREATE TABLE mine AS SELECT 1 AS n'
        const refused = await fleet.sql(paused, write, DATABASE).catch((error: Error) => error.message)
        expect(refused).to.match(/read-only transaction/)
        const reply = await fleet.bus.request('session.promote', { session: paused.id })
        expect(reply.accepted).to.equal(true)
        const promoted = await fleet.untilState(paused.id, 'published')
        await fleet.sql(promoted, write, DATABASE)
        expect(await rows(promoted)).to.equal(productionOf(version).moments.time.rows)
      })

      const isNewer = Number(version) > Number(POSTGRES_MAJOR)
      it(`are ${isNewer ? 'not ' : ''}exported by pg_dump of PostgreSQL ${POSTGRES_MAJOR}`, async () => {
        const { directory } = productionOf(version)
        const to = `${directory}.export`
        await mkdir(to)
        const { id } = sessions.time
        try {
          await chown(to, account.uid, account.gid)
          const request = { session: id, databases: [DATABASE], destination: { type: 'directory', path: to } }
          const reply = await fleet.bus.request('session.export', request as CommandBody<'session.export'>)
          if (!reply.accepted) throw new Error(reply.error.message)
          const { exports = [] } = await poll(
            async () => {
              const view = await fleet.show(id)
              return ['done', 'failed'].includes(view.exports?.at(-1)?.status ?? '') ? view : undefined
            },
            { deadlineMs: 60_000, failure: () => 'the export does not end' },
          )
          const { status, databases, error } = exports.at(-1) ?? {}
          if (!isNewer) return expect(status, JSON.stringify([error, databases])).to.equal('done')
          expect(error).to.include({ code: 'postgres_missing' })
          expect(error?.message).to.include(`pg_dump of that version or a newer one`)
          expect(error?.message).to.include(`(PostgreSQL) ${POSTGRES_MAJOR}`)
          expect(await fleet.show(id)).to.include({ state: 'published' })
        } finally {
          await rm(to, { recursive: true, force: true })
        }
      })

      it('resume after kill -9 of PostgreSQL and of the mount process, with every committed row', async () => {
        const { id } = sessions.latest
        await fleet.sql(sessions.latest, 'CREATE TABLE kept AS SELECT 42 AS n', DATABASE)
        for (const processes of [() => postmasters(fleet, id), () => mountProcesses(id)]) {
          const [process_] = processes()
          process.kill(process_?.pid ?? 0, 'SIGKILL')
          await fleet.untilState(id, 'disrupted')
          const again = await fleet.untilState(id, 'published')
          expect(await fleet.sql(again, 'SELECT n FROM kept', DATABASE)).to.equal('42')
          expect(await rows(again)).to.equal(productionOf(version).moments.latest.rows)
        }
      })

      it('archive nothing, follow and ask nobody, and start nothing by themselves', async () => {
        const session = sessions.latest
        await fleet.sql(session, 'SELECT pg_switch_wal(); CHECKPOINT', DATABASE)
        for (const [name, value] of [
          ['archive_mode', 'off'],
          ['archive_command', '(disabled)'],
          ['primary_conninfo', ''],
          ['primary_slot_name', ''],
          ['max_logical_replication_workers', '0'],
        ] as const)
          expect(await fleet.sql(session, `SHOW ${name}`), name).to.equal(value)
        expect(await fleet.sql(session, 'SELECT subname, subenabled FROM pg_subscription')).to.equal(
          'from_hub|t',
        )
        expect(await fleet.sql(session, 'SELECT count(*) FROM pg_replication_slots')).to.equal('0')
        const workers = `SELECT string_agg(DISTINCT backend_type, ',' ORDER BY backend_type) FROM pg_stat_activity
          WHERE backend_type NOT IN ('client backend', 'background writer', 'checkpointer', 'walwriter',
            'autovacuum launcher', 'autovacuum worker', 'io worker', 'parallel worker')`
        expect(await fleet.sql(session, workers)).to.equal('')
        expect(connections, 'connections to the server that production names').to.equal(0)
      })

      it('leave production, its archive and its repository as they were', async () => {
        for (const { id } of Object.values(sessions)) {
          const reply = await fleet.bus.request('session.unpublish', { session: id })
          expect(reply.accepted).to.equal(true)
        }
        for (const { id } of Object.values(sessions)) await fleet.untilState(id, 'closed')
        expect(directoryDigest(productionOf(version).directory)).to.equal(digests.get(version))
      })
    })
  }
})
