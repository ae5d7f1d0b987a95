/**
 * Measures what the isolation of PostgreSQL's file system and network costs: the same backup published by an agent that
 * isolates and by one that does not, in turns.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import type { Figure } from '../figure.ts'
import { pgbench, query, type Server } from '../postgres.ts'
import type { Scope } from '../scope.ts'
import { inTurns, type Turns } from '../turns.ts'
import type { Workshop } from '../workshop.ts'

const OPEN = 'without isolation'

export async function isolation(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const { amounts } = workshop
  const { path: repository, stanza, database } = await workshop.production(amounts.small)
  const repositories = [{ name: 'main', format: 'pgbackrest', path: repository }] as const
  const directory = await mkdtemp('/tmp/howdah-bench-hba-')
  scope.defer(directory, () => rm(directory, { recursive: true, force: true }))
  const hba = path.join(directory, 'pg_hba.conf')
  await writeFile(hba, 'local all all trust\nhost all all localhost trust\n')
  const fleets: Fleet[] = []
  for (const isolation of [{}, { isolation: { fileSystem: false, network: false } }]) {
    const fleet = await startFleet({ repositories: [...repositories], target: isolation })
    scope.defer('the agents', () => fleet.remove())
    fleets.push(fleet)
  }
  const [isolated, open] = fleets as [Fleet, Fleet]
  const turns = (what: string, count: number) => ({ workshop, scope, what, count })

  const publish = async (fleet: Fleet): Promise<{ server: Server; seconds: number }> => {
    const begun = performance.now()
    const session = await fleet.publish('--repository', 'main', '--instance', stanza, '--hba-file', hba)
    const seconds = (performance.now() - begun) / 1000
    if (session.connection === undefined) throw new Error(`${session.id} has no connection`)
    const { host, port, user } = session.connection
    return { server: { host, port, user, database }, seconds }
  }
  const servers = new Map<Fleet, Server>()
  // The first publish decodes the backup; both have it then.
  for (const fleet of fleets) servers.set(fleet, (await publish(fleet)).server)
  const publishes = await inTurns(turns('publish', amounts.publishes), [isolated, open], async (fleet) => {
    const { seconds } = await publish(fleet)
    return seconds
  })
  const sides = [isolated, open].map((fleet) => servers.get(fleet) as Server) as [Server, Server]
  for (const server of sides)
    await query(
      server,
      "SELECT sum(pg_prewarm(oid, 'read')) FROM pg_class WHERE relkind IN ('r', 'i') AND relname LIKE 'pgbench%'",
    )
  const readOnly = (what: string, host: string | undefined, ...options: string[]) =>
    inTurns(turns(what, amounts.turns * 4), sides, async (server) => {
      const { rate } = await pgbench({ ...server, host: host ?? server.host }, amounts.readOnlySeconds / 4, [
        '-S',
        ...options,
      ])
      return rate
    })
  const socket = await readOnly('pgbench read-only by the socket', undefined)
  const tcp = await readOnly('pgbench read-only by TCP', 'localhost')
  const connects = await readOnly('pgbench read-only, a connection each', 'localhost', '-C')
  const figure = (name: string, unit: Figure['unit'], values: Turns, limit: number): Figure => ({
    name,
    unit,
    better: unit === 's' ? 'less' : 'more',
    howdah: values.howdah,
    instead: { what: OPEN, values: values.instead },
    target: { of: 'ratio', limit },
  })
  return [
    figure('publish with isolation', 's', publishes, 0.95),
    figure('pgbench read-only by the socket, isolated', '/s', socket, 0.97),
    figure('pgbench read-only by TCP, isolated', '/s', tcp, 0.97),
    figure('the same with a TCP connection for each transaction', '/s', connects, 0.95),
  ]
}
