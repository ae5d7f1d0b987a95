/**
 * Clients that write to a published instance and keep a record of what was committed: TPC-B-like transactions, each
 * with a number of its own, and maintenance that makes, truncates and removes files, with checkpoints between.
 */
import pg from 'pg'
import type { SessionView } from '../../../messages/values.ts'
import type { Random } from './random.ts'

const CLIENTS = 4
const CONNECT_MS = 10_000

/** Ids of transactions, over all rounds. */
export interface Ledger {
  /** COMMIT was answered. */
  readonly acknowledged: Set<number>
  /** COMMIT was sent, and the connection broke before the answer. */
  readonly unknown: Set<number>
  last: number
  checkpoints: number
}

export interface Load {
  /** Resolves when the instance has gone away under every client; rejects when one fails before `breaks`. */
  readonly ended: Promise<void>
  /** From now on the instance may fail under its clients. */
  breaks(): void
}

export function createLedger(): Ledger {
  return { acknowledged: new Set(), unknown: new Set(), last: 0, checkpoints: 0 }
}

export function connect(session: SessionView, database: string): pg.Client {
  const { connection } = session
  if (connection === undefined) throw new Error(`${session.id} has no connection`)
  const { socketDirectory, port, user } = connection
  const client = new pg.Client({
    host: socketDirectory,
    port,
    user,
    database,
    connectionTimeoutMillis: CONNECT_MS,
  })
  // The connection breaks when the instance is killed, which is the point.
  client.on('error', () => undefined)
  return client
}

/** Makes the ledger's table; safe to repeat. */
export async function prepareLedger(session: SessionView, database: string): Promise<void> {
  const client = connect(session, database)
  await client.connect()
  try {
    await client.query('CREATE TABLE IF NOT EXISTS ledger (id int PRIMARY KEY)')
  } finally {
    await client.end()
  }
}

/** Starts the clients. @throws Error when they cannot connect */
export async function startLoad(
  session: SessionView,
  database: string,
  ledger: Ledger,
  random: Random,
): Promise<Load> {
  let broken = false
  const clients = Array.from({ length: CLIENTS + 1 }, () => connect(session, database))
  await Promise.all(clients.map((client) => client.connect()))
  const [maintainer, ...writers] = clients

  const untilBroken = async (client: pg.Client, work: () => Promise<void>): Promise<void> => {
    try {
      for (;;) await work()
    } catch (error) {
      if (!broken) throw error
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  const work = [
    ...writers.map((client) => untilBroken(client, () => transaction(client, ledger, random))),
    ...(maintainer === undefined
      ? []
      : [untilBroken(maintainer, () => maintenance(maintainer, ledger, random))]),
  ]
  return {
    ended: Promise.all(work).then(() => undefined),
    breaks() {
      broken = true
    },
  }
}

async function transaction(client: pg.Client, ledger: Ledger, random: Random): Promise<void> {
  const id = ++ledger.last
  const account = 1 + random.below(100_000)
  const teller = 1 + random.below(10)
  const delta = random.below(10_001) - 5000
  ledger.unknown.add(id)
  // One message is one transaction.
  const results = (await client.query(`
    UPDATE pgbench_accounts SET abalance = abalance + ${delta} WHERE aid = ${account};
    UPDATE pgbench_tellers SET tbalance = tbalance + ${delta} WHERE tid = ${teller};
    UPDATE pgbench_branches SET bbalance = bbalance + ${delta} WHERE bid = 1;
    INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (${teller}, 1, ${account}, ${delta}, now());
    INSERT INTO ledger VALUES (${id});`)) as unknown as pg.QueryResult[]
  if (!results.every(({ rowCount }) => rowCount === 1)) {
    throw new Error(`transaction ${id} on account ${account} has missed a row`)
  }
  ledger.unknown.delete(id)
  ledger.acknowledged.add(id)
}

async function maintenance(client: pg.Client, ledger: Ledger, random: Random): Promise<void> {
  switch (random.below(6)) {
    case 0:
      await client.query('DROP TABLE IF EXISTS made')
      await client.query('CREATE TABLE made AS SELECT n, md5(n::text) FROM generate_series(1, 3000) n')
      break
    case 1:
      await client.query('VACUUM pgbench_branches, pgbench_tellers')
      break
    case 2:
      await client.query('REINDEX INDEX ledger_pkey')
      break
    case 3:
      await client.query('VACUUM FULL pgbench_tellers')
      break
    default:
      await client.query('CHECKPOINT')
      ledger.checkpoints++
  }
}
