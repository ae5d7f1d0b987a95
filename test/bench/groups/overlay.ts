/**
 * Measures Howdah beside what can be assembled from a distribution: kernel overlayfs with sshfs below and a local directory
 * above, on the same plain backup. From nothing to the first answered query, and the first minute of TPC-B after it.
 */
import { execFile } from 'node:child_process'
import { chown, mkdir, mkdtemp, rm } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { POSTGRES_BIN, postgresAccount } from '../../support/postgres-cluster.ts'
import type { Figure } from '../figure.ts'
import { dropCaches, warm } from '../machine.ts'
import { pgbench, type Server, startPostgres, untilAnswered } from '../postgres.ts'
import type { Scope } from '../scope.ts'
import { type SshServer, startSshServer, unmount } from '../sshfs.ts'
import { inTurns } from '../turns.ts'
import type { StockedProduction, Workshop } from '../workshop.ts'

const QUERY = 'SELECT count(*) FROM notes WHERE NOT pg_is_in_recovery()'
const SPARE_READY_MS = 6_000
const PROGRAMS = [`${POSTGRES_BIN}/postgres`, `${POSTGRES_BIN}/psql`, '/usr/bin/sshfs', '/usr/bin/ssh']

interface Source {
  readonly production: StockedProduction
  readonly data: string
  /** Rows of `notes` at the time of the backup. */
  readonly notes: string
}

/** Starts a server from nothing. The time until then is measured. */
type Start = (scope: Scope) => Promise<Server>

export async function overlay(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const { amounts } = workshop
  const production = await workshop.production(amounts.small)
  const { path: repository, instance, data } = await production.plainBackup()
  const fleet = await startFleet({
    repositories: [{ name: 'plain', format: 'basebackup', path: repository }],
    target: { log: { level: 'info' } },
    coordinator: { log: { level: 'info' } },
  })
  scope.defer('the agents', () => fleet.remove())
  const ssh = await startSshServer(scope)
  const source: Source = { production, data, notes: '11000' }
  const starts: readonly [Start, Start] = [
    (inner) => publishedServer(inner, fleet, source, instance),
    (inner) => overlaidServer(inner, ssh, source),
  ]

  const minutes = { howdah: [] as number[], instead: [] as number[] }
  // The agents have run before, as they have on any machine where they are installed.
  const warmUp = scope.inner()
  await publishedServer(warmUp, fleet, source, instance)
  await warmUp.close()
  const first = await inTurns(
    { workshop, scope, what: 'Howdah and overlayfs over sshfs', count: amounts.overlayTurns },
    starts,
    async (start) => {
      const inner = scope.inner()
      try {
        await sleep(SPARE_READY_MS)
        await dropCaches()
        // The data must be cold, not the programs: those of both sides are in use on such a machine.
        await fleet.howdah('sessions')
        for (const program of PROGRAMS) await warm(program)
        const begun = performance.now()
        const server = await start(inner)
        const seconds = (performance.now() - begun) / 1000
        const { transactions } = await pgbench(server, amounts.firstMinuteSeconds)
        minutes[start === starts[0] ? 'howdah' : 'instead'].push(transactions)
        return seconds
      } finally {
        await inner.close()
      }
    },
  )
  const what = 'overlayfs over sshfs'
  return [
    {
      ...{ name: 'command to first query, plain backup, cold', unit: 's', better: 'less' },
      howdah: first.howdah,
      instead: { what, values: first.instead },
      target: { of: 'ratio', limit: 1 },
    },
    {
      ...{ name: `first ${amounts.firstMinuteSeconds} s of TPC-B`, unit: 'transactions', better: 'more' },
      howdah: minutes.howdah,
      instead: { what, values: minutes.instead },
      target: { of: 'ratio', limit: 1 },
    },
  ]
}

async function publishedServer(
  scope: Scope,
  fleet: Fleet,
  { production, notes }: Source,
  instance: string,
): Promise<Server> {
  const session = await fleet.publish('--repository', 'plain', '--instance', instance)
  scope.defer(session.id, () => fleet.howdahJson('unpublish', session.id, '--yes'))
  if (session.connection === undefined) throw new Error(`${session.id} has no connection`)
  const { host, port, user } = session.connection
  const server = { host, port, user, database: production.database }
  await untilAnswered(scope, server, QUERY, notes)
  return server
}

async function overlaidServer(
  scope: Scope,
  ssh: SshServer,
  { production, data, notes }: Source,
): Promise<Server> {
  const account = await postgresAccount()
  const directory = await mkdtemp('/var/tmp/howdah-bench-overlay-')
  scope.defer(directory, () => rm(directory, { recursive: true, force: true }))
  const at = (name: string) => path.join(directory, name)
  for (const name of ['lower', 'upper', 'work', 'merged', 'sockets']) await mkdir(at(name), { mode: 0o700 })
  for (const made of [directory, at('upper'), at('sockets')]) await chown(made, account.uid, account.gid)
  scope.defer(at('lower'), () => unmount(at('lower')))
  await ssh.mount(data, at('lower'))
  scope.defer(at('merged'), () => unmount(at('merged')))
  const layers = `lowerdir=${at('lower')},upperdir=${at('upper')},workdir=${at('work')}`
  await promisify(execFile)('mount', ['-t', 'overlay', 'overlay', '-o', layers, at('merged')])
  const server = await startPostgres(scope, {
    data: at('merged'),
    directory: at('sockets'),
    database: production.database,
    // As Howdah starts it: without archiving, and without opening every file at the start.
    settings: new Map([
      ['archive_mode', 'off'],
      ['recovery_init_sync_method', 'syncfs'],
    ]),
  })
  await untilAnswered(scope, server, QUERY, notes)
  return server
}
