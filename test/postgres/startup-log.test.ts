import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { startFailure } from '../../agents/target/postgres/recovery/start-failure.ts'
import { openLog } from '../../agents/target/postgres/recovery/startup-log.ts'
import { ABSENT } from '../../agents/target/postgres/settings/recovery-settings.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import { POSTGRES_BIN, postgresAccount } from '../support/postgres-cluster.ts'

describe('The log of a server that recovers', () => {
  let directory: string

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-startup-log-'))
  })
  after(() => rm(directory, { recursive: true, force: true }))

  async function read(...lines: string[]) {
    const path = join(directory, 'postgresql.log')
    await writeFile(path, lines.map((line) => `${line}\n`).join(''))
    const log = await openLog(path, 0)
    await log.poll()
    await log.close()
    return log
  }

  const specification = async (): Promise<InstanceSpec> => ({
    session: 'shop-1',
    mountPoint: directory,
    cachePath: directory,
    binaries: POSTGRES_BIN,
    version: '15',
    user: await postgresAccount(),
    port: 1,
    recoverTo: { type: 'name', value: 'release' },
  })
  const stamped = (text: string) => `2026-11-22 13:00:00.000 UTC [7] ${text}`
  const absent = (name: string) => `${ABSENT}${name}`
  const restored = (name: string) => stamped(`LOG:  restored log file "${name}" from archive`)
  const FIRST = '000000010000000000000003'
  const NEWER = '000000020000000000000003'
  const NEXT = '000000010000000000000004'

  it('shows that a standby has reached the end of its archive', async () => {
    const log = await read(stamped('LOG:  waiting for WAL to become available at 0/3002000'))
    expect(log.archiveEnded).to.equal(true)
  })

  it('shows it also before version 15, when the standby requests the same segment again', async () => {
    expect((await read(restored(FIRST), absent(NEXT))).archiveEnded).to.equal(false)
    expect((await read(restored(FIRST), absent(NEXT), absent(NEXT))).archiveEnded).to.equal(true)
  })

  it('does not take a segment of another timeline or a history file for the end', async () => {
    const history = absent('00000002.history')
    const log = await read(history, history, absent(NEWER), restored(FIRST), absent(NEWER), restored(FIRST))
    expect(log.archiveEnded).to.equal(false)
    expect(log.lastRestored).to.equal(FIRST)
  })

  it('has the SQLSTATE codes of errors, and of nothing else', async () => {
    const coded = (code: string, text: string) => `2026-11-22 13:00:00.000 UTC [7:${code}] ${text}`
    const log = await read(
      coded('00000', 'LOG:  starting PostgreSQL'),
      coded('57P03', 'FATAL:  the database system is starting up'),
      coded('53100', 'FATAL:  could not write to file "pg_wal/x": No space left on device'),
    )
    expect([...log.sqlStates]).to.deep.equal(['53100'])
    expect((await startFailure(await specification(), log, 'ended')).code).to.equal('space_low')
  })

  it("names the wrong line of pg_hba.conf as numbered in the user's content", async () => {
    const log = await read(
      stamped('LOG:  invalid connection type "nobody"'),
      stamped('CONTEXT:  line 5 of configuration file "/conf/pg_hba.conf"'),
      stamped('LOG:  end-of-line before authentication method'),
      stamped('CONTEXT:  line 7 of configuration file "/conf/pg_hba.conf"'),
      stamped('FATAL:  could not load pg_hba.conf'),
    )
    const error = await startFailure(await specification(), log, 'ended')
    expect(error).to.include({ code: 'configuration', field: 'hba' })
    expect(error.message).to.match(/line 2: invalid connection type "nobody"; line 4: /)
  })

  it('leads to an error that names the position reached and the end of the archive', async () => {
    const log = await read(
      restored(FIRST),
      stamped('LOG:  redo done at 0/3000148 system usage: CPU: user: 0.00 s'),
      stamped('LOG:  last completed transaction was at log time 2026-11-22 12:34:56+00'),
      stamped('FATAL:  recovery ended before configured recovery target was reached'),
    )
    const error = await startFailure(await specification(), log, 'ended')
    expect(error.code).to.equal('target_unreachable')
    expect(error.message).to.match(/ends at 0\/3000148 before .* name release; .*12:34:56\+00.*0{7}3/)
  })
})
