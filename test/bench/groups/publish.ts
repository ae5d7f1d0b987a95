/**
 * Measures the time from the command to the first answered query: `howdah publish` beside `pgbackrest restore --process-max=2`
 * and a start of PostgreSQL, on the same repository in the same minutes.
 */
import { chown, mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SessionView } from '../../../messages/values.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { postgresAccount } from '../../support/postgres-cluster.ts'
import { type Figure, median } from '../figure.ts'
import { startPostgres, untilAnswered } from '../postgres.ts'
import type { Scope } from '../scope.ts'
import { NOTES, type StockedProduction, type Workshop } from '../workshop.ts'

/** The target agent keeps a spare mount process, which it starts some seconds after the last one was used. */
const SPARE_READY_MS = 7_000

interface Size {
  readonly production: StockedProduction
  readonly restores: number[]
  readonly firsts: number[]
  readonly seconds: number[]
  readonly sessions: SessionView[]
}

export async function publish(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const { small, large, publishes } = workshop.amounts
  const sizes: Size[] = []
  for (const scale of [small, large]) {
    const production = await workshop.production(scale)
    sizes.push({ production, restores: [], firsts: [], seconds: [], sessions: [] })
  }
  // One more than is measured: the first publish warms up the agents.
  const views = await Promise.all(
    sizes.map(({ production }, index) => production.views(`size-${index}`, publishes + 1)),
  )
  const fleet = await startFleet({
    repositories: views.flat(),
    target: { log: { level: 'info' } },
    coordinator: { log: { level: 'info' } },
  })
  scope.defer('the agents', () => fleet.remove())
  for (const [index, { production }] of sizes.entries())
    await publishOnce(fleet, production, `size-${index}-0`)
  let spareTaken = performance.now()
  const publishWithSpare = async (production: StockedProduction, repository: string) => {
    await sleep(Math.max(0, spareTaken + SPARE_READY_MS - performance.now()))
    spareTaken = performance.now()
    return publishOnce(fleet, production, repository)
  }
  for (let turn = 1; turn <= publishes; turn++) {
    for (const [index, size] of sizes.entries()) {
      scope.check()
      workshop.say(`  ${turn} of ${publishes}, the ${index === 0 ? 'smaller' : 'larger'} …`)
      const repository = `size-${index}-${turn}`
      size.restores.push(await restoreOnce(scope, size.production))
      const first = await publishWithSpare(size.production, repository)
      size.firsts.push(first.seconds)
      size.sessions.push(first.session)
      size.seconds.push((await publishWithSpare(size.production, repository)).seconds)
    }
  }
  return [...sizes.flatMap((size) => sizeFigures(size, workshop)), growth(sizes)]
}

function sizeFigures(size: Size, workshop: Workshop): Figure[] {
  const { sessions, restores, firsts, seconds } = size
  const bytes = sessions[0]?.usage?.totalBytes ?? 0
  const gigabytes = `${(bytes / 1e9).toFixed(1)} GB`
  const instead = { what: 'pgbackrest restore and start', values: restores }
  workshop.note(`${gigabytes}, steps of the first publish: ${breakdown(sessions)}`)
  return [
    {
      name: `command to first query, ${gigabytes}`,
      unit: 's',
      better: 'less',
      howdah: firsts,
      instead,
      target: { of: 'value', limit: 1.2 },
    },
    { name: `published again, ${gigabytes}`, unit: 's', better: 'less', howdah: seconds, instead },
  ]
}

/** The ratio of the medians, as a figure of its own. */
function growth(sizes: readonly Size[]): Figure {
  const [smaller, larger] = sizes.map(({ firsts }) => median(firsts))
  return {
    name: 'the larger against the smaller',
    unit: '×',
    better: 'less',
    howdah: [(larger ?? Number.NaN) / (smaller ?? Number.NaN)],
    target: { of: 'value', limit: 1.2 },
  }
}

/** Medians of the steps' times, and what was fetched. */
function breakdown(sessions: readonly SessionView[]): string {
  const steps = new Map<string, number[]>()
  for (const { step, startedAt, finishedAt } of sessions.flatMap((session) => session.steps)) {
    const ms = Date.parse(finishedAt ?? startedAt) - Date.parse(startedAt)
    steps.set(step, [...(steps.get(step) ?? []), ms])
  }
  const fetched = median(sessions.map(({ usage }) => usage?.fetchedBytes ?? Number.NaN)) / 1e6
  const times = [...steps].map(([step, values]) => `${step} ${Math.round(median(values))} ms`)
  return `${times.join(', ')}; ${fetched.toFixed(1)} MB fetched`
}

/** From the start of the command to the answer of the first query, both as programs that a person would run. */
async function publishOnce(
  fleet: Fleet,
  production: StockedProduction,
  repository: string,
): Promise<{ seconds: number; session: SessionView }> {
  const started = performance.now()
  const session = await fleet.publish('--repository', repository, '--instance', production.stanza)
  const notes = await fleet.sql(session, 'SELECT count(*) FROM notes', production.database)
  const seconds = (performance.now() - started) / 1000
  if (notes !== String(NOTES)) throw new Error(`the published instance has ${notes} notes, not ${NOTES}`)
  const shown = await fleet.show(session.id)
  await fleet.howdahJson('unpublish', session.id, '--yes')
  return { seconds, session: shown }
}

async function restoreOnce(outer: Scope, production: StockedProduction): Promise<number> {
  const scope = outer.inner()
  const account = await postgresAccount()
  const directory = path.join(production.directory, 'restored')
  const data = path.join(directory, 'data')
  scope.defer(directory, () => rm(directory, { recursive: true, force: true }))
  for (const made of [directory, data]) {
    await mkdir(made, { mode: 0o700 })
    await chown(made, account.uid, account.gid)
  }
  try {
    const started = performance.now()
    await production.pgbackrest('restore', `--pg1-path=${data}`, '--process-max=2', '--archive-mode=off')
    const server = await startPostgres(scope, { data, directory, database: production.database })
    // It answers queries during recovery already; a publish ends with the promoted instance, and so does this.
    const text = 'SELECT count(*) FROM notes WHERE NOT pg_is_in_recovery()'
    await untilAnswered(scope, server, text, String(NOTES))
    return (performance.now() - started) / 1000
  } finally {
    await scope.close()
  }
}
