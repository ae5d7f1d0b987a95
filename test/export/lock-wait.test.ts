import { expect } from 'chai'
import pg from 'pg'
import type { Destination } from '../../agents/target/export/destinations/destination.ts'
import { exportDatabase } from '../../agents/target/export/dump/export-database.ts'
import { createPrograms } from '../../agents/target/export/dump/programs.ts'
import type { InstanceAddress } from '../../agents/target/postgres/connections/instance-client.ts'
import { startInstance } from '../../agents/target/postgres/instance.ts'
import { type Backup, logger, makeBackup, mountCopy, type Published } from '../postgres/backup.ts'

describe('An export that has to wait for a lock', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published
  let address: InstanceAddress

  before(async () => {
    backup = await makeBackup({ settings: { fsync: 'on', max_prepared_transactions: '5' } })
    published = await mountCopy(backup)
    const { connection } = await startInstance(published.spec, { logger, syncMount: async () => undefined })
    const { socketDirectory, port, user } = connection
    address = { instance: published.spec, socketDirectory, port, user, database: 'postgres' }
  })
  after(async () => {
    await published?.remove()
    await backup?.remove()
  })

  /** pg_dump, and nowhere to put what it gives. */
  const nowhere: Destination = {
    open: async () => undefined,
    async write(dump) {
      const program = dump.start(['-Fp'])
      program.stdout.resume()
      await program.done
      return { path: '/nowhere', bytes: 0 }
    },
    finish: async () => undefined,
    discard: async () => [],
    close: async () => undefined,
  }

  async function failed(lockWaitMs: number): Promise<{ message: string; reported: string[] }> {
    const signal = AbortSignal.timeout(50_000)
    const reported: string[] = []
    const error = await exportDatabase({
      ...{ database: 'postgres', address, tables: undefined, destination: nowhere, lockWaitMs, signal },
      programs: createPrograms({ session: published.spec, signal }),
      report: ({ waiting }) => {
        if (waiting !== undefined) reported.push(waiting)
      },
    }).then(
      () => new Error('it was exported'),
      (reason: unknown) => reason as Error,
    )
    return { message: error.message, reported }
  }

  it('names the lock and its holder while it waits and in its error', async () => {
    const { socketDirectory: host, port, user } = address
    const holder = new pg.Client({ host, port, user, database: 'postgres', application_name: 'forgotten' })
    await holder.connect()
    try {
      await holder.query('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE')
      const { message, reported } = await failed(4_500)
      expect(reported[0]).to.match(
        /^a lock on public\.t, which is held by the process \d+ \(role "\w+", application "forgotten", idle in transaction, since \d{4}-.*Z\)$/,
      )
      expect(message).to.include(`it waited for ${reported[0]}, and was given up after 5 s`)
    } finally {
      await holder.end()
    }
  })

  it('names a prepared transaction that holds it', async () => {
    await published.sql("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'left behind'")
    const { message } = await failed(4_500)
    expect(message).to.include(`a prepared transaction (ROLLBACK PREPARED 'left behind'`)
    await published.sql("ROLLBACK PREPARED 'left behind'")
  })
})
