/**
 * What a scenario works with: clusters of its own, backups of them, and a fleet that publishes them. Everything that
 * production has lies in one directory, which must be the same, byte for byte and time for time, when all is over.
 */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import type { CheckReport, CommandBody } from '../../messages/definitions.ts'
import type { ErrorBody } from '../../messages/errors.ts'
import type { SessionView } from '../../messages/values.ts'
import { directoryDigest } from '../support/digest.ts'
import type { Fleet } from '../support/fleet.ts'
import { mountInventory } from '../support/inventory.ts'
import type { Account } from '../support/postgres-cluster.ts'
import {
  type Barman,
  INSTANCE,
  makeBarman,
  makePgBackRest,
  ownDirectory,
  type PgBackRest,
  type PgBackRestOptions,
  takeBasebackup,
} from './backups.ts'
import type { Cluster, ClusterOptions, Clusters } from './cluster.ts'
import { repositoryPath, walPath } from './scenario.ts'

export type PublishOptions = Partial<CommandBody<'instance.publish'>>

export interface Workbench {
  /** Production's side: clusters, tablespaces, archives and repositories. Belongs to the account of PostgreSQL. */
  readonly directory: string
  /** For what is to come into being, such as exports. */
  readonly scratch: string
  readonly account: Account
  readonly fleet: Fleet
  /** Name of the scenario's repository. */
  readonly repository: string
  /** A cluster that runs and archives to the scenario's WAL archive; see cluster.ts for what is in it. */
  cluster(options?: ClusterOptions): Promise<Cluster>
  /** A directory of production's, as a tablespace needs one. */
  place(name: string): Promise<string>
  /** pg_basebackup into the repository. Give `args` that map tablespaces. */
  basebackup(cluster: Cluster, label?: string, ...args: string[]): Promise<string>
  pgbackrest(cluster: Cluster, options?: PgBackRestOptions): Promise<PgBackRest>
  barman(cluster: Cluster, more?: string): Promise<Barman>
  /**
   * Stops production. From now on nothing in its directory may change. Publishing does it implicitly.
   * `again`: the scenario itself has changed something since.
   */
  seal(how?: { readonly again?: boolean }): Promise<void>
  /** Production continues while it is published: the scenario says by its rows what must hold of it. */
  keepRunning(): void
  /** Publishes and waits. @throws Error when it fails */
  publish(options?: PublishOptions): Promise<SessionView>
  /** Publishes what must be refused or fail, once and without another try, and leave nothing. */
  failingPublish(options?: PublishOptions): Promise<ErrorBody>
  /** Publishes, exports tables of databases into `scratch`, and unpublishes; gives the session when that is over. */
  rescue(what: { databases?: string[]; tables?: string[] }): Promise<SessionView>
  /** Exports from a published instance into `scratch`, and gives the session when that is over. */
  export(session: SessionView, what: { databases?: string[]; tables?: string[] }): Promise<SessionView>
  check(options?: PublishOptions): Promise<CheckReport>
  /** Rows of the published instance, as `psql -At` prints them. */
  rows(session: SessionView, query: string, database?: string): Promise<string>
  unpublish(session: SessionView): Promise<void>
  /** Waits until the session has a warning. @throws Error after a while */
  untilWarned(session: string, pattern: RegExp): Promise<SessionView>
  /** Waits for a condition. @throws Error that names it after a while */
  untilTrue(condition: () => boolean | Promise<boolean>, what: string): Promise<void>
}

/** A workbench with its end: what the scenario made is taken down, and what must hold of every scenario is held. */
export interface OpenWorkbench extends Workbench {
  finish(): Promise<void>
  /** Takes everything down without a look, after a failure. */
  discard(): Promise<void>
}

export interface WorkbenchOptions {
  readonly directory: string
  readonly scratch: string
  readonly account: Account
  readonly fleet: Fleet
  readonly clusters: Clusters
  readonly repository: string
}

const SETTLED_SECONDS = 60
const OVER_DEADLINE_MS = 60_000

export async function openWorkbench(options: WorkbenchOptions): Promise<OpenWorkbench> {
  const { directory, scratch, account, fleet, clusters, repository } = options
  const made: Cluster[] = []
  const sessions = new Set<string>()
  let running = false
  let sealed: string | undefined
  await ownDirectory(directory, account)
  await ownDirectory(walPath(directory), account)
  await ownDirectory(scratch, account)

  async function seal({ again = false } = {}): Promise<void> {
    if ((sealed !== undefined && !again) || running) return
    for (const cluster of made) await cluster.stop('immediate')
    sealed = directoryDigest(directory)
  }

  const body = (more: PublishOptions): CommandBody<'instance.publish'> => ({
    ...{ repository, instance: INSTANCE, target: 'db-7' },
    ...more,
  })

  async function begin(more: PublishOptions): Promise<string> {
    await seal()
    const reply = await fleet.bus.request('instance.publish', body(more))
    if (!reply.accepted) throw Object.assign(new Error(reply.error.message), { refusal: reply.error })
    sessions.add(reply.session)
    return reply.session
  }

  async function unpublish(session: string): Promise<void> {
    await fleet.bus.request('session.unpublish', { session })
    await fleet.untilState(session, 'closed', SETTLED_SECONDS).catch(async (error: Error) => {
      if ((await fleet.show(session)).state !== 'failed') throw error
    })
  }

  async function untilOver(session: string, isOver: (view: SessionView) => boolean): Promise<SessionView> {
    for (const deadline = Date.now() + OVER_DEADLINE_MS; ; await sleep(50)) {
      const view = await fleet.show(session)
      if (isOver(view)) return view
      if (Date.now() > deadline) throw new Error(`${session} is not done: ${JSON.stringify(view)}`)
    }
  }

  /** What is left of the sessions on the target. */
  function leftovers(): string[] {
    const mounts = [...mountInventory().values()]
    return [...sessions].flatMap((session) => [
      ...mounts.filter((mount) => mount.includes(session)),
      ...[fleet.mountRoot, fleet.cacheRoot].map((root) => join(root, session)).filter((at) => existsSync(at)),
    ])
  }

  async function discard(): Promise<void> {
    for (const session of sessions) await unpublish(session)
    for (const cluster of made) await cluster.stop('immediate')
    await rm(directory, { recursive: true, force: true })
    await rm(scratch, { recursive: true, force: true })
  }

  const destination = async (): Promise<{ type: 'directory'; path: string }> => {
    return { type: 'directory', path: await ownDirectory(join(scratch, `export-${Date.now()}`), account) }
  }

  return {
    ...{ directory, scratch, account, fleet, repository, seal },

    async cluster(more = {}) {
      const cluster = await clusters.make(directory, { walDirectory: walPath(directory), ...more })
      made.push(cluster)
      return cluster
    },

    place: (name) => ownDirectory(join(directory, name), account, 0o700),

    basebackup: (cluster, label = 'full', ...args) =>
      takeBasebackup(cluster, account, repositoryPath(directory), label, args),

    pgbackrest: (cluster, more = {}) =>
      makePgBackRest(
        cluster,
        account,
        { home: join(directory, 'pgbackrest'), repository: repositoryPath(directory) },
        more,
      ),

    barman: (cluster, more) =>
      makeBarman(
        cluster,
        account,
        { home: join(directory, 'barman'), repository: repositoryPath(directory) },
        more,
      ),

    keepRunning() {
      running = true
    },

    publish: async (more = {}) => fleet.untilState(await begin(more), 'published', SETTLED_SECONDS),

    async failingPublish(more = {}) {
      let session: string
      try {
        session = await begin(more)
      } catch (error) {
        const { refusal } = error as { refusal?: ErrorBody }
        if (refusal === undefined) throw error
        return refusal
      }
      const { error, steps } = await fleet.untilState(session, 'failed', SETTLED_SECONDS)
      const failures = steps.filter(({ status, direction }) => status === 'failed' && direction === 'run')
      expect(
        failures.map(({ step }) => step),
        'it fails once',
      ).to.have.lengthOf(1)
      if (error === undefined) throw new Error(`${session} failed without an error`)
      return error
    },

    async rescue(what) {
      const session = await begin({ export: { ...what, destination: await destination() } })
      return untilOver(session, ({ state }) => state === 'closed' || state === 'failed')
    },

    async export(session, what) {
      const request = { session: session.id, ...what, destination: await destination() }
      const reply = await fleet.bus.request('session.export', request)
      if (!reply.accepted) throw new Error(reply.error.message)
      return untilOver(session.id, ({ exports = [] }) =>
        exports.some(({ id, finishedAt }) => id === reply.export && finishedAt !== undefined),
      )
    },

    async check(more = {}) {
      await seal()
      const reply = await fleet.bus.request('instance.check', body(more), { timeoutMs: 60_000 })
      if (!reply.accepted) throw new Error(reply.error.message)
      return reply.report
    },

    rows: (session, query, database = 'app') => fleet.sql(session, query, database),
    unpublish: (session) => unpublish(session.id),
    untilWarned: (session, pattern) =>
      untilOver(session, ({ warnings }) => warnings.some((warning) => pattern.test(warning))),
    async untilTrue(condition, what) {
      for (const deadline = Date.now() + OVER_DEADLINE_MS; !(await condition()); await sleep(50)) {
        if (Date.now() > deadline) throw new Error(`not in time: ${what}`)
      }
    },

    async finish() {
      for (const session of sessions) await unpublish(session)
      expect(leftovers(), 'left on the target').to.deep.equal([])
      if (sealed !== undefined) {
        expect(directoryDigest(directory), "production's directories, before and after").to.equal(sealed)
      }
      await discard()
    },
    discard,
  }
}
