/** In PostgreSQL 17 login triggers of the backup fire for every connection, including superusers and those to a standby. */
import { chmod, chown, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import pg from 'pg'
import { observe } from '../../agents/target/changes/observe.ts'
import { queryReadiness } from '../../agents/target/postgres/connections/connection.ts'
import type { InstanceAddress } from '../../agents/target/postgres/connections/instance-client.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import { surveyInstance } from '../../agents/target/survey/survey.ts'
import { surveyWarnings } from '../../agents/target/survey/warnings.ts'
import { freePort } from '../../coordinator/cli/free-port.ts'
import { postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { binariesOf } from '../support/postgres-majors.ts'
import { scratchDirectory } from '../support/scratch.ts'

const BINARIES = binariesOf('17')

describe('Login triggers of PostgreSQL 17', function () {
  this.timeout(60_000)
  let directory = ''
  let spec: InstanceSpec
  let address: InstanceAddress
  const pgCtl = async (...args: string[]): Promise<void> => {
    await runAs(spec.user, join(BINARIES, 'pg_ctl'), ['-s', '-w', '-D', join(directory, 'data'), ...args])
  }

  before(async () => {
    directory = await scratchDirectory('howdah-login-triggers-')
    const user = await postgresAccount()
    const run = join(directory, 'run')
    await mkdir(run)
    for (const made of [directory, run]) await chown(made, user.uid, user.gid)
    await chmod(directory, 0o711)
    const port = await freePort()
    spec = {
      ...{ session: 'test-17', mountPoint: directory, cachePath: directory, binaries: BINARIES },
      ...{ version: '17', user, port, recoverTo: { type: 'latest' } },
    }
    address = { instance: spec, socketDirectory: run, port, user: 'keeper', database: 'postgres' }
    await runAs(user, join(BINARIES, 'initdb'), [
      ...[
        '-D',
        join(directory, 'data'),
        '-U',
        'keeper',
        '--auth=trust',
        '--no-sync',
        '--locale=C',
        '-E',
        'UTF8',
      ],
    ])
    const options = `-c port=${port} -c unix_socket_directories=${run} -c listen_addresses= -c fsync=off`
    await pgCtl('start', '-l', join(directory, 'log'), '-o', options)
    await plain('postgres', 'CREATE DATABASE app')
    await plain('app', 'CREATE TABLE audit (at timestamptz)')
    await addTrigger('app', 'INSERT INTO audit VALUES (now());')
    await addTrigger('postgres', `RAISE 'superusers may not enter';`)
  })
  after(async () => {
    if (spec) await pgCtl('stop', '-m', 'immediate').catch(() => undefined)
    await rm(directory, { recursive: true, force: true })
  })

  /** As any client that knows nothing of triggers. */
  async function plain<T extends pg.QueryResultRow>(database: string, sql: string): Promise<T[]> {
    const client = new pg.Client({ host: address.socketDirectory, port: spec.port, user: 'keeper', database })
    client.on('error', () => undefined)
    try {
      await client.connect()
      return (await client.query<T>(sql)).rows
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  async function addTrigger(database: string, body: string): Promise<void> {
    await plain(
      database,
      `CREATE FUNCTION entered() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN ${body} END$$;
       CREATE EVENT TRIGGER "on entry" ON login EXECUTE FUNCTION entered();
       ALTER EVENT TRIGGER "on entry" ENABLE ALWAYS`,
    )
  }

  it('keep other clients out, but not Howdah', async () => {
    const error = await plain('postgres', 'SELECT').catch((reason: unknown) => reason)
    expect(error).to.have.property('message', 'superusers may not enter')
    const readiness = await queryReadiness(spec, 10_000)
    expect(readiness).to.include({ state: 'ready' })
    expect('connectedAs' in readiness && readiness.connectedAs).to.deep.equal({
      user: 'keeper',
      database: 'postgres',
    })
  })

  it('are reported, and do not fire for that', async () => {
    const before = await observe(address)
    const warnings = surveyWarnings(await surveyInstance(address, AbortSignal.timeout(20_000)))
    expect(warnings.join('\n')).to.include('on entry in "app"; on entry in "postgres"')
    expect((await observe(address))?.xid).to.equal(before?.xid)
  })

  it('do not fire for a login whose name was unknown before', async () => {
    const readiness = await queryReadiness(spec, 10_000, { user: 'nobody', database: 'nowhere' })
    expect(readiness).to.include({ state: 'ready' })
  })
})
