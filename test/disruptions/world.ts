/**
 * Owns what the tests of disruptions share: a production, a fleet whose roles run on hosts of their own, and sessions
 * that are brought to a phase and followed from there.
 */
import { access, chown, mkdir, rm } from 'node:fs/promises'
import { expect } from 'chai'
import type pg from 'pg'
import { isMounted } from '../../agents/target/filesystem/drivers/mount-table.ts'
import { clearDeadMount } from '../../agents/target/mount-process/agent/dead-mount.ts'
import type { SessionView } from '../../messages/values.ts'
import { connect } from '../durability/support/load.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import type { Hosts } from '../support/hosts.ts'
import { poll } from '../support/poll.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type UntilStep, watchSteps } from './step-watch.ts'

/** Seconds that a read waits for the mount server. */
export const READ_DEADLINE_S = 6
const NOTES = 1100

export interface World {
  readonly production: Production
  readonly fleet: Fleet
  readonly hosts: Hosts
  /** Sends the publish command and returns the session. */
  begin(): Promise<string>
  readonly untilStep: UntilStep
  publish(): Promise<SessionView>
  /** Resolves when the session has ended. Safe to repeat. */
  unpublish(session: string): Promise<void>
  /** Resolves when the view is as wanted. @throws Error with the view when it does not become so within a minute */
  until(session: string, what: string, wanted: (view: SessionView) => boolean): Promise<SessionView>
  untilPublished(session: string): Promise<SessionView>
  /** Commits one row with this number in a session's table of kept rows. */
  keep(session: SessionView, id: number): Promise<void>
  /** Everything of the backup and of the archive is there, and exactly these kept rows. */
  expectWhole(session: SessionView, kept: readonly number[]): Promise<void>
  /** Requests an export of the database, and resolves when an agent has begun it. */
  beginExport(session: string): Promise<void>
  /** Runs one statement. @throws the error of PostgreSQL */
  query(session: SessionView, text: string): Promise<Record<string, unknown>[]>
  /** The codes of all errors in the session's history. */
  errors(session: string): Promise<string[]>
  /** The target as after a power cut: no process, no mount, no temporary directory. Its agent is not started. */
  rebootTarget(): Promise<void>
  remove(failed: boolean): Promise<void>
}

/** A production whose archive goes beyond its backup, and a fleet on hosts that publishes it. */
async function makeProductionAndFleet(): Promise<{ production: Production; fleet: Fleet; hosts: Hosts }> {
  const production = await makeProduction({
    compress: 'gz',
    // It would read at any time.
    settings: { autovacuum: 'off' },
  })
  try {
    await production.backup('full')
    await production.writeNotes(100, 'after the backup')
    await production.switchWal()
    const fleet = await startFleet({
      hosts: true,
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      coordinator: { heartbeat: { interval: 1, lostAfter: 4 } },
      // Each session fetches its blocks itself, so that it needs the mount server.
      target: { readDeadline: READ_DEADLINE_S, cache: { fetchedBytes: 0 } },
    })
    if (!fleet.hosts) throw new Error('the fleet has no hosts')
    return { production, fleet, hosts: fleet.hosts }
  } catch (error) {
    await production.remove()
    throw error
  }
}

export async function makeWorld(): Promise<World> {
  const { production, fleet, hosts } = await makeProductionAndFleet()
  const { bus } = fleet
  const { database } = production

  const exportsTo = `${fleet.directory}/exports`
  const { uid, gid } = await postgresAccount()
  await mkdir(exportsTo)
  await chown(exportsTo, uid, gid)

  const untilStep = await watchSteps(bus)

  async function begin(): Promise<string> {
    const body = { repository: 'main', instance: production.stanza, target: 'db-7' }
    const reply = await bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    return reply.session
  }

  async function until(
    id: string,
    what: string,
    wanted: (view: SessionView) => boolean,
  ): Promise<SessionView> {
    let view: SessionView | undefined
    return poll(
      async () => {
        view = await fleet.show(id)
        return wanted(view) ? view : undefined
      },
      { deadlineMs: UNTIL_MS, failure: () => `${id} is still not ${what}: ${JSON.stringify(view)}` },
    )
  }

  async function query(session: SessionView, text: string): Promise<Record<string, unknown>[]> {
    const client: pg.Client = connect(session, database)
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(text)).rows
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  return {
    production,
    fleet,
    hosts,
    begin,
    untilStep,
    async publish() {
      const id = await begin()
      const view = await fleet.untilState(id, 'published')
      await query(view, 'CREATE TABLE kept (id int PRIMARY KEY)')
      return view
    },
    async unpublish(session) {
      const reply = await bus.request('session.unpublish', { session })
      if (!reply.accepted) throw new Error(reply.error.message)
      await until(session, 'ended', ({ state }) => state === 'closed' || state === 'failed')
    },
    until,
    untilPublished: (session) => until(session, 'published', ({ state }) => state === 'published'),
    async keep(session, id) {
      await query(session, `INSERT INTO kept VALUES (${id})`)
    },
    async expectWhole(session, kept) {
      const [counted] = await query(session, 'SELECT count(*)::int AS notes FROM notes')
      expect(counted).to.deep.equal({ notes: NOTES })
      if (kept.length === 0) return
      const rows = await query(session, 'SELECT id FROM kept ORDER BY id')
      expect(rows.map(({ id }) => id)).to.deep.equal(kept)
    },
    async beginExport(session) {
      const destination = { type: 'directory' as const, path: `${exportsTo}/${session}` }
      const reply = await bus.request('session.export', { session, databases: [database], destination })
      if (!reply.accepted) throw new Error(reply.error.message)
      await untilStep(session, 'export', 'run')
    },
    query,
    async errors(session) {
      const { history = [] } = await fleet.show(session)
      return history.map(({ error }) => error?.code).filter((code) => code !== undefined)
    },
    async rebootTarget() {
      await hosts.killAll('target-agent')
      const { sessions } = await listed(fleet)
      for (const { id } of sessions) await clearDeadMount(`${fleet.mountRoot}/${id}`)
      await rm(fleet.mountRoot, { recursive: true, force: true })
    },
    async remove(failed) {
      await fleet.remove(failed)
      await production.remove()
    },
  }
}

const UNTIL_MS = 60_000

async function listed(fleet: Fleet): Promise<{ sessions: readonly { id: string }[] }> {
  const reply = await fleet.bus.request('session.list', {})
  if (!reply.accepted) throw new Error(reply.error.message)
  return reply
}

/** Nothing of a session is left on the target. */
export async function expectGone({ fleet }: World, id: string): Promise<void> {
  expect(isMounted(`${fleet.mountRoot}/${id}`), `${id} is mounted`).to.equal(false)
  for (const path of [`${fleet.mountRoot}/${id}`, `${fleet.cacheRoot}/${id}`]) {
    expect(await exists(path), `${path} exists`).to.equal(false)
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
