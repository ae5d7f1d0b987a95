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

export interface ExportedParts {
  readonly databases?: string[]
  readonly tables?: string[]
}

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
  rescue(what: ExportedParts): Promise<SessionView>
  /** Exports from a published instance into `scratch`, and gives the session when that is over. */
  export(session: SessionView, what: ExportedParts): Promise<SessionView>
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
  const { directory, scratch, account, fleet, repository } = options
  const production = productionSide(options)
  const sessions = sessionSide(options, production.seal)
  for (const made of [directory, walPath(directory), scratch]) await ownDirectory(made, account)

  async function discard(): Promise<void> {
    await sessions.unpublishAll()
    await production.remove()
    await rm(scratch, { recursive: true, force: true })
  }

  return {
    ...{ directory, scratch, account, fleet, repository, discard },
    ...production,
    ...sessions,
    async untilTrue(condition, what) {
      for (const deadline = Date.now() + OVER_DEADLINE_MS; !(await condition()); await sleep(50)) {
        if (Date.now() > deadline) throw new Error(`not in time: ${what}`)
      }
    },
    async finish() {
      await sessions.unpublishAll()
      expect(sessions.leftovers(), 'left on the target').to.deep.equal([])
      production.requireUnchanged()
      await discard()
    },
  }
}

/** Makes clusters and backups of them, and knows whether anything of theirs has changed since they were sealed. */
function productionSide({ directory, account, clusters }: WorkbenchOptions) {
  const made: Cluster[] = []
  let running = false
  let sealed: string | undefined
  const paths = (tool: string) => ({
    home: join(directory, tool),
    repository: repositoryPath(directory),
  })

  return {
    async cluster(more: Partial<ClusterOptions> = {}) {
      const cluster = await clusters.make(directory, { walDirectory: walPath(directory), ...more })
      made.push(cluster)
      return cluster
    },
    place: (name: string) => ownDirectory(join(directory, name), account, 0o700),
    basebackup: (cluster: Cluster, label = 'full', ...args: string[]) =>
      takeBasebackup(cluster, account, repositoryPath(directory), label, args),
    pgbackrest: (cluster: Cluster, more: PgBackRestOptions = {}) =>
      makePgBackRest(cluster, account, paths('pgbackrest'), more),
    barman: (cluster: Cluster, more?: string) => makeBarman(cluster, account, paths('barman'), more),
    async seal({ again = false } = {}): Promise<void> {
      if ((sealed !== undefined && !again) || running) return
      for (const cluster of made) await cluster.stop('immediate')
      sealed = directoryDigest(directory)
    },
    keepRunning() {
      running = true
    },
    requireUnchanged(): void {
      if (sealed === undefined) return
      expect(directoryDigest(directory), "production's directories, before and after").to.equal(sealed)
    },
    async remove(): Promise<void> {
      for (const cluster of made) await cluster.stop('immediate')
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Publishes, exports and unpublishes, and knows what is left of it on the target. */
function sessionSide(options: WorkbenchOptions, seal: () => Promise<void>) {
  const { scratch, account, fleet, repository } = options
  const sessions = new Set<string>()
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

  const destination = async (): Promise<{ type: 'directory'; path: string }> => {
    return { type: 'directory', path: await ownDirectory(join(scratch, `export-${Date.now()}`), account) }
  }

  return {
    publish: async (more: PublishOptions = {}) =>
      fleet.untilState(await begin(more), 'published', SETTLED_SECONDS),
    async failingPublish(more: PublishOptions = {}): Promise<ErrorBody> {
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
      const failed = failures.map(({ step }) => step)
      expect(failed, 'it fails once').to.have.lengthOf(1)
      if (error === undefined) throw new Error(`${session} failed without an error`)
      return error
    },
    async rescue(what: ExportedParts): Promise<SessionView> {
      const session = await begin({ export: { ...what, destination: await destination() } })
      return untilOver(fleet, session, ({ state }) => state === 'closed' || state === 'failed')
    },
    async export(session: SessionView, what: ExportedParts): Promise<SessionView> {
      const request = { session: session.id, ...what, destination: await destination() }
      const reply = await fleet.bus.request('session.export', request)
      if (!reply.accepted) throw new Error(reply.error.message)
      return untilOver(fleet, session.id, ({ exports = [] }) =>
        exports.some(({ id, finishedAt }) => id === reply.export && finishedAt !== undefined),
      )
    },
    async check(more: PublishOptions = {}): Promise<CheckReport> {
      await seal()
      const reply = await fleet.bus.request('instance.check', body(more), { timeoutMs: 60_000 })
      if (!reply.accepted) throw new Error(reply.error.message)
      return reply.report
    },
    rows: (session: SessionView, query: string, database = 'app') => fleet.sql(session, query, database),
    unpublish: (session: SessionView) => unpublish(session.id),
    untilWarned: (session: string, pattern: RegExp) =>
      untilOver(fleet, session, ({ warnings }) => warnings.some((warning) => pattern.test(warning))),
    async unpublishAll(): Promise<void> {
      for (const session of sessions) await unpublish(session)
    },
    leftovers(): string[] {
      const mounts = [...mountInventory().values()]
      return [...sessions].flatMap((session) => [
        ...mounts.filter((mount) => mount.includes(session)),
        ...[fleet.mountRoot, fleet.cacheRoot]
          .map((root) => join(root, session))
          .filter((at) => existsSync(at)),
      ])
    },
  }
}

async function untilOver(
  fleet: Fleet,
  session: string,
  isOver: (view: SessionView) => boolean,
): Promise<SessionView> {
  for (const deadline = Date.now() + OVER_DEADLINE_MS; ; await sleep(50)) {
    const view = await fleet.show(session)
    if (isOver(view)) return view
    if (Date.now() > deadline) throw new Error(`${session} is not done: ${JSON.stringify(view)}`)
  }
}
