import { expect } from 'chai'
import { observe } from '../../agents/target/changes/observe.ts'
import type { InstanceAddress } from '../../agents/target/postgres/connections/instance-client.ts'
import { startInstance } from '../../agents/target/postgres/instance.ts'
import { surveyInstance } from '../../agents/target/survey/survey.ts'
import { surveyWarnings } from '../../agents/target/survey/warnings.ts'
import { type Backup, logger, makeBackup, mountCopy, type Published } from '../postgres/backup.ts'

describe('The survey of a published instance', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published | undefined
  let address: InstanceAddress

  before(async () => {
    backup = await makeBackup({
      settings: { fsync: 'on' },
      before: [
        'CREATE DATABASE shop; CREATE DATABASE foreignland; CREATE DATABASE unfinished; CREATE ROLE app LOGIN',
        "UPDATE pg_database SET datcollate = 'xx_XX.UTF-8', datctype = 'xx_XX.UTF-8' WHERE datname = 'foreignland'",
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'unfinished'",
        "ALTER ROLE app SET local_preload_libraries = 'not_here'",
        `\\connect shop
         CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw;
         CREATE SERVER "hr ""2" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'hr.example', dbname 'hr');
         CREATE USER MAPPING FOR app SERVER "hr ""2" OPTIONS (user 'app', password 'a secret word');
         CREATE SCHEMA cron; CREATE TABLE cron.job (jobid bigint, active boolean);
         INSERT INTO cron.job VALUES (1, true), (2, true), (3, false);
         CREATE SCHEMA timetable; CREATE VIEW timetable.chain AS SELECT 1;
         CREATE SCHEMA pgagent; CREATE TABLE pgagent.pga_job (ours text)`,
        "ALTER DATABASE shop SET session_preload_libraries = 'no_such_library', 'auto_explain'",
      ],
    })
    published = await mountCopy(backup)
    const { spec } = published
    const { connection } = await startInstance(spec, { logger, syncMount: async () => undefined })
    const { socketDirectory, port, user } = connection
    address = { instance: spec, socketDirectory, port, user, database: 'postgres' }
  })
  after(async () => {
    await published?.remove()
    await backup?.remove()
  })

  it('names what connects elsewhere, acts on its own or refuses connections, without secrets', async () => {
    const warnings = surveyWarnings(await surveyInstance(address, AbortSignal.timeout(30_000)))
    const text = warnings.join('\n')
    expect(text)
      .to.include('hr "2 (postgres_fdw to hr.example) in "shop"')
      .and.include('1 user mappings have passwords')
    expect(text).to.include('dblink in "shop"; postgres_fdw in "shop"')
    expect(text).to.include('2 of pg_cron in "shop"').and.not.include('pgAgent')
    expect(text)
      .to.include('not_here (role "app"); no_such_library (database "shop")')
      .and.not.include('auto_explain')
    expect(text).to.include('"foreignland": database locale is incompatible').and.include('xx_XX.UTF-8')
    expect(text).not.to.include('secret').and.not.include('unfinished')
    expect(warnings).to.have.length(5)
  })

  it('changes nothing', async () => {
    const before = await observe(address)
    await surveyInstance(address, AbortSignal.timeout(30_000))
    const after = await observe(address)
    expect(after?.xid).to.equal(before?.xid)
    expect(after?.databases).to.deep.equal(before?.databases)
  })

  it('ends when it is aborted', async () => {
    const error = await surveyInstance(address, AbortSignal.abort(new Error('enough'))).catch(
      (reason: unknown) => reason,
    )
    expect(error).to.have.property('message', 'enough')
  })
})

describe('Warnings of a survey', () => {
  const none = { extensions: [], servers: [], passwords: 0, jobs: [], loginTriggers: [], workers: [] }

  it('are empty for a database without such objects', () => {
    const databases = [{ database: 'app', ...none }]
    expect(surveyWarnings({ databases, missingLibraries: [], unusable: [], left: 0 })).to.deep.equal([])
  })

  it('stay short, however much there is to list', () => {
    const databases = Array.from({ length: 500 }, (_, number) => ({
      ...none,
      database: `app${number}`,
      loginTriggers: ['t'.repeat(63)],
    }))
    const [warning = '', left] = surveyWarnings({ databases, missingLibraries: [], unusable: [], left: 3 })
    expect(warning).to.include('and 492 more').and.have.length.below(1500)
    expect(left).to.include('3 databases')
  })
})
