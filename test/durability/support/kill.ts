/**
 * Kills the mount process of a published instance under load, repeatedly, and checks each time, after Howdah has
 * resumed the session, that nothing committed is missing and nothing is damaged.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { findMountProcess } from '../../../agents/target/mount-process/agent/mount-process.ts'
import type { SessionView } from '../../../messages/values.ts'
import { directoryDigest } from '../../support/digest.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import type { ImitatedKernel } from '../../support/kernels/kernels.ts'
import { POSTGRES_BIN, postgresAccount, runAs } from '../../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../../support/production.ts'
import { createLedger, type Ledger, prepareLedger, startLoad } from './load.ts'
import { createRandom } from './random.ts'

export interface KillOptions {
  readonly seed: number
  /** Kills, at most. */
  readonly kills: number
  /** Milliseconds since the epoch after which no new round begins. */
  readonly until?: number
  /** The kernel that the target agent sees; default: this one. */
  readonly kernel?: ImitatedKernel
  readonly onProgress?: (outcome: KillOutcome) => void
}

export interface KillOutcome {
  readonly kills: number
  /** Kills while the session was still recovering from the one before. */
  readonly killsInRecovery: number
  readonly acknowledged: number
  readonly checkpoints: number
}

const INSTANCE_DEADLINE_S = 90
/** Longest time that the load runs before a kill. */
const LOAD_MS = 3000
const RECOVERY_MS = 1200

/**
 * Publishes a backup of a production of its own and kills. @throws Error that says what was lost or damaged
 */
export async function runKills(options: KillOptions): Promise<KillOutcome> {
  const { until = Number.POSITIVE_INFINITY } = options
  const random = createRandom(options.seed)
  const ledger = createLedger()
  let production: Production | undefined
  let fleet: Fleet | undefined
  let failed = true
  let kills = 0
  let killsInRecovery = 0
  const outcome = (): KillOutcome => ({
    kills,
    killsInRecovery,
    acknowledged: ledger.acknowledged.size,
    checkpoints: ledger.checkpoints,
  })
  try {
    production = await makeProduction({
      compress: 'gz',
      settings: { fsync: 'on', checkpoint_timeout: '30s' },
    })
    await production.backup('full')
    await production.stop()
    const digest = directoryDigest(production.path)
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      ...(options.kernel && { kernel: options.kernel }),
    })
    const { database, stanza } = production
    let session = await fleet.publish('--repository', 'main', '--instance', stanza)
    const fsync = await fleet.sql(session, 'SHOW fsync')
    if (fsync !== 'on') throw new Error(`the published instance runs with fsync ${fsync}`)
    await prepareLedger(session, database)

    while (kills < options.kills && Date.now() < until) {
      const load = await startLoad(session, database, ledger, random)
      await Promise.race([sleep(100 + random.below(LOAD_MS)), load.ended])
      load.breaks()
      await kill(fleet, session)
      kills++
      await load.ended
      await fleet.untilState(session.id, 'disrupted', INSTANCE_DEADLINE_S)
      while (kills < options.kills && random.oneIn(3)) {
        await sleep(random.below(RECOVERY_MS))
        if (!(await kill(fleet, session))) continue
        kills++
        killsInRecovery++
      }
      session = await settled(fleet, session)
      await checkDatabase(fleet, session, database, ledger)
      session = await checkStopped(fleet, session)
      options.onProgress?.(outcome())
    }
    await fleet.howdahJson('unpublish', session.id, '--yes')
    if (directoryDigest(production.path) !== digest) throw new Error('the repository has changed')
    failed = false
    return outcome()
  } finally {
    await fleet?.remove(failed)
    await production?.remove()
  }
}

/** Kills the mount process; returns whether there was one. */
async function kill(fleet: Fleet, session: SessionView): Promise<boolean> {
  const mounted = await findMountProcess(`${fleet.cacheRoot}/${session.id}`)
  if (mounted === undefined) return false
  process.kill(mounted.pid, 'SIGKILL')
  await mounted.ended
  return true
}

/** Published, and still so when queried again: a kill may be noticed only after the state was reported. */
async function settled(fleet: Fleet, session: SessionView): Promise<SessionView> {
  const deadline = Date.now() + INSTANCE_DEADLINE_S * 1000
  for (;;) {
    const view = await fleet.untilState(session.id, 'published', INSTANCE_DEADLINE_S)
    const usable = await fleet.sql(view, 'SELECT 1').then(
      () => true,
      () => false,
    )
    if (usable) return view
    if (Date.now() > deadline) throw new Error(`${session.id} is reported as published and is not usable`)
    await sleep(100)
  }
}

/** Every acknowledged commit is there, nothing else is, and the tables agree with each other. */
async function checkDatabase(
  fleet: Fleet,
  session: SessionView,
  database: string,
  ledger: Ledger,
): Promise<void> {
  const rows = await fleet.sql(session, 'SELECT id FROM ledger', database)
  const found = new Set(rows.split('\n').filter(Boolean).map(Number))
  const lost = [...ledger.acknowledged].filter((id) => !found.has(id))
  if (lost.length > 0)
    throw new Error(`${lost.length} acknowledged transactions are lost: ${lost.slice(0, 10)}`)
  for (const id of found) {
    if (ledger.acknowledged.has(id)) continue
    if (!ledger.unknown.delete(id)) throw new Error(`no worker has written transaction ${id}`)
    ledger.acknowledged.add(id)
  }
  ledger.unknown.clear()
  const balances = await fleet.sql(
    session,
    `SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
            (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history),
            (SELECT count(*) FROM pgbench_history)`,
    database,
  )
  const [accounts, tellers, branches, history, count] = balances.split('|')
  const balanced = accounts === tellers && accounts === branches && accounts === history
  if (!balanced || Number(count) !== found.size) {
    const wrong = await fleet.sql(
      session,
      `SELECT aid, ctid, abalance, coalesce(sum(delta), 0) FROM pgbench_accounts LEFT JOIN pgbench_history USING (aid)
       GROUP BY aid HAVING abalance <> coalesce(sum(delta), 0) LIMIT 10`,
      database,
    )
    throw new Error(
      `the balances differ: ${balances}, and ${found.size} transactions were committed; ${wrong}`,
    )
  }
  const { host, port, user } = session.connection ?? { host: '', port: 0, user: '' }
  const where = ['-h', host, '-p', String(port), '-U', user]
  await runAs(await postgresAccount(), `${POSTGRES_BIN}/pg_amcheck`, [...where, '--install-missing', '--all'])
}

/** `pg_checksums --check` needs a stopped instance, and the target agent starts one that stops: it is away meanwhile. */
async function checkStopped(fleet: Fleet, session: SessionView): Promise<SessionView> {
  const account = await postgresAccount()
  const data = `${fleet.mountRoot}/${session.id}/data`
  await fleet.stop('target-agent', 'SIGKILL')
  await runAs(account, `${POSTGRES_BIN}/pg_ctl`, ['stop', '-D', data, '-w', '-s', '-t', '60', '-m', 'fast'])
  await runAs(account, `${POSTGRES_BIN}/pg_checksums`, ['--check', '-D', data])
  await fleet.start('target-agent')
  await fleet.untilState(session.id, 'disrupted', INSTANCE_DEADLINE_S)
  return settled(fleet, session)
}
