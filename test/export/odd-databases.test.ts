/** Exports databases in other encodings than UTF-8 and with unusual names, byte for byte. */
import { expect } from 'chai'
import type { Observation } from '../../agents/target/changes/detection.ts'
import { observe, observeDatabase } from '../../agents/target/changes/observe.ts'
import type { DatabaseDump, Destination } from '../../agents/target/export/destinations/destination.ts'
import { exportDatabase } from '../../agents/target/export/dump/export-database.ts'
import { createPrograms } from '../../agents/target/export/dump/programs.ts'
import { chooseDatabases } from '../../agents/target/export/source/choose-databases.ts'
import {
  type InstanceAddress,
  withAnyDatabase,
} from '../../agents/target/postgres/connections/instance-client.ts'
import { listDatabases } from '../../agents/target/postgres/connections/instance-databases.ts'
import { startInstance } from '../../agents/target/postgres/instance.ts'
import { surveyInstance } from '../../agents/target/survey/survey.ts'
import { type Backup, logger, makeBackup, mountCopy, type Published } from '../postgres/backup.ts'
import { poll } from '../support/poll.ts'

/** 63 bytes, the longest that there can be. */
const LONG = `Ünï "quoted" 'n' \\ a\nb = ${'x'.repeat(36)}`
const EVERYTHING = { destination: { type: 'directory', path: '/nowhere' } } as const

describe('Databases with unusual encodings and names', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published
  let address: InstanceAddress

  before(async () => {
    const quoted = `"${LONG.replaceAll('"', '""')}"`
    backup = await makeBackup({
      settings: { fsync: 'on', client_encoding: 'UTF8' },
      before: [
        `CREATE DATABASE plain_bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`,
        `CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`,
        `CREATE DATABASE ${quoted}`,
        `\\connect plain_bytes
         CREATE TABLE words AS SELECT convert_from('\\xe9740a'::bytea, 'SQL_ASCII') AS word;
         CREATE TABLE "two\nlines ""quoted""" AS SELECT generate_series(1, 2) AS n;
         DO $$BEGIN EXECUTE format('CREATE TABLE %I AS SELECT generate_series(1, 3) AS n', convert_from('\\x636166e9'::bytea, 'SQL_ASCII')); END$$`,
        // Its name has the bytes of LATIN1, in the one catalog that all databases share.
        `\\connect latin
         CREATE TABLE "Öfen" AS SELECT 'glühend'::text AS wie; CREATE DATABASE "Tür" TEMPLATE template0`,
      ],
    })
    published = await mountCopy(backup)
    const { connection } = await startInstance(published.spec, { logger, syncMount: async () => undefined })
    const { socketDirectory, port, user } = connection
    address = { instance: published.spec, socketDirectory, port, user, database: 'postgres' }
  })
  after(async () => {
    await published?.remove()
    await backup?.remove()
  })

  async function exported(
    database: string,
    tables?: readonly string[],
  ): Promise<{ dump: Buffer; rows: object }> {
    const signal = AbortSignal.timeout(50_000)
    const chunks: Buffer[] = []
    const destination: Destination = {
      open: async () => undefined,
      async write(dump: DatabaseDump) {
        const program = dump.start(['-Fp'])
        for await (const chunk of program.stdout) chunks.push(chunk as Buffer)
        await program.done
        return { path: '/nowhere', bytes: 0 }
      },
      finish: async () => undefined,
      discard: async () => [],
      close: async () => undefined,
    }
    const { counts } = await exportDatabase({
      ...{ database, address, tables, destination, signal },
      programs: createPrograms({ session: published.spec, signal }),
      report: () => undefined,
    })
    const rows = Object.fromEntries(counts.map(({ name, rows: count }) => [name, count]))
    return { dump: Buffer.concat(chunks), rows }
  }

  it('without an encoding are exported byte for byte, with every table counted', async () => {
    const { dump, rows } = await exported('plain_bytes')
    expect(dump.includes(Buffer.from("SET client_encoding = 'SQL_ASCII'"))).to.equal(true)
    expect(dump.includes(Buffer.from('\n\xe9t\\n\n', 'latin1'))).to.equal(true)
    expect(rows).to.deep.equal({ words: 1, 'caf\uFFFD': 3, 'two\nlines "quoted"': 2 })
  })

  it('keep their encoding, unless tables are requested by names that are not ASCII', async () => {
    const { dump, rows } = await exported('latin', ['"Öfen"'])
    expect(dump.toString()).to.include("SET client_encoding = 'UTF8'").and.include('\nglühend\n')
    expect(rows).to.deep.equal({ Öfen: 1 })
    const whole = await exported('latin')
    expect(whole.dump.includes(Buffer.from("SET client_encoding = 'LATIN1'"))).to.equal(true)
    expect(whole.dump.includes(Buffer.from('\nglühend\n', 'latin1'))).to.equal(true)
  })

  it('are exported whatever their name', async () => {
    expect(Buffer.byteLength(LONG)).to.equal(63)
    const { rows } = await exported(LONG)
    expect(rows).to.deep.equal({})
  })

  it('whose names are in another encoding are omitted with the reason, and the others exported', async () => {
    const all = await withAnyDatabase(address, listDatabases)
    expect(all.find(({ name }) => name === 'T\uFFFDr')?.closed).to.include('its name is not UTF-8')
    const chosen = await chooseDatabases(
      address,
      { ...EVERYTHING, tables: ['Öfen', '"Öfen"'] },
      async () => ({
        changed: false,
        databases: [],
      }),
    )
    expect(chosen.databases).to.deep.equal(['latin'])
    expect(chosen.notes.join()).to.include('its name is not UTF-8')
    const { databases } = await surveyInstance(address, AbortSignal.timeout(20_000))
    expect(databases.map(({ database }) => database)).to.include.members([LONG, 'latin', 'plain_bytes'])
  })

  it('are connected to for their statistics only when something was written since the last look', async () => {
    await published.sql('\\connect latin\nINSERT INTO "Öfen" VALUES (1)')
    const written = async (before?: Observation) => {
      const seen = await observe(address, before)
      return (seen?.databases.get('latin')?.written ?? 0) > 0 ? seen : undefined
    }
    const options = { deadlineMs: 15_000, failure: () => 'the write is in no counter' }
    const first = await poll(() => written(), options)
    const second = await poll(() => written(first), options)
    // The same object: it was not queried again.
    expect(second.databases.get('latin')).to.equal(first.databases.get('latin'))
    expect(await observeDatabase(address, 'latin')).to.deep.include({
      counters: first.databases.get('latin'),
    })
    expect(await observeDatabase(address, LONG)).to.deep.include({ epoch: first.epoch })
    expect(await observeDatabase(address, 'nowhere')).to.equal(undefined)
  })
})
