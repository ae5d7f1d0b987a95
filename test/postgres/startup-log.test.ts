import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { CLUSTER_STATES, type ClusterState } from '../../agents/target/postgres/recovery/control-file.ts'
import { startFailure } from '../../agents/target/postgres/recovery/start-failure.ts'
import { openLog } from '../../agents/target/postgres/recovery/startup-log.ts'
import { ABSENT, RESTORED } from '../../agents/target/postgres/settings/recovery-settings.ts'
import { type InstanceSpec, instancePaths } from '../../agents/target/postgres/specification.ts'
import { crc32c } from '../../agents/wal/crc32c.ts'
import { POSTGRES_BIN, POSTGRES_MAJOR, postgresAccount } from '../support/postgres-cluster.ts'

/** pg_control of PostgreSQL 13 to 16, with 16 MiB segments. */
function controlFile(state: ClusterState, backupEndAwaited: boolean): Buffer {
  const bytes = Buffer.alloc(8192)
  bytes.writeUInt32LE(1300, 8)
  bytes.writeUInt32LE(CLUSTER_STATES.indexOf(state), 16)
  bytes.writeUInt32LE(1, 48)
  bytes.writeUInt8(backupEndAwaited ? 1 : 0, 168)
  bytes.writeUInt32LE(16 * 1024 ** 2, 228)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 288)), 288)
  return bytes
}

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
    version: POSTGRES_MAJOR,
    user: await postgresAccount(),
    port: 1,
    recoverTo: { type: 'name', value: 'release' },
  })
  const coded = (code: string, text: string) => `2026-11-22 13:00:00.000 UTC [7:${code}] ${text}`
  const absent = (name: string) => `${ABSENT}${name}`
  const restored = (name: string) => `${RESTORED}${name}`
  const FIRST = '000000010000000000000003'
  const NEWER = '000000020000000000000003'
  const NEXT = '000000010000000000000004'
  const ENDED = coded('XX000', 'FATAL:  the archive is over, in words of a future version')

  /** A data directory of which pg_control says this. */
  async function control(state: ClusterState, backupEndAwaited: boolean) {
    await mkdir(join(directory, 'data/global'), { recursive: true })
    await writeFile(join(directory, 'data/global/pg_control'), controlFile(state, backupEndAwaited))
  }

  it('shows the end of the archive when the same segment is requested again', async () => {
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
    const log = await read(
      coded('00000', 'LOG:  starting PostgreSQL'),
      coded('57P03', 'FATAL:  the database system is starting up'),
      coded('53100', 'FATAL:  could not write to file "pg_wal/x": No space left on device'),
    )
    expect([...log.sqlStates]).to.deep.equal(['53100'])
    expect((await startFailure(await specification(), log, 'ended')).code).to.equal('space_low')
  })

  it("names the wrong line of pg_hba.conf as numbered in the user's content", async () => {
    const { hba } = instancePaths({ mountPoint: directory, cachePath: directory })
    const log = await read(
      coded('F0000', 'LOG:  invalid connection type "nobody"'),
      coded('F0000', `CONTEXT:  line 5 of configuration file "${hba}"`),
      coded('F0000', 'LOG:  end-of-line before authentication method'),
      coded('F0000', `CONTEXT:  line 7 of configuration file "${hba}"`),
      coded('F0000', 'FATAL:  could not load pg_hba.conf'),
    )
    const error = await startFailure(await specification(), log, 'ended')
    expect(error).to.include({ code: 'configuration', field: 'hba' })
    expect(error.message).to.match(/line 2: invalid connection type "nobody"; line 4: /)
  })

  it('leads to an error that names the position reached and the end of the archive', async () => {
    await control('in archive recovery', false)
    const log = await read(
      restored(FIRST),
      absent(NEXT),
      coded('00000', 'LOG:  redo done at 0/3000148 system usage: CPU: user: 0.00 s'),
      coded('00000', 'LOG:  last completed transaction was at log time 2026-11-22 12:34:56+00'),
      ENDED,
    )
    const error = await startFailure(await specification(), log, 'ended')
    expect(error.code).to.equal('target_unreachable')
    expect(error.message).to.match(/ends at 0\/3000148 before .* name release; .*12:34:56\+00.*0{7}3/)
  })

  it('leads to the same error whatever PostgreSQL writes, from pg_control and the archive', async () => {
    const cases = [
      { awaited: true, lines: [restored(FIRST), absent(NEXT), ENDED], code: 'wal_missing' },
      { awaited: true, lines: [restored(FIRST), ENDED], code: 'target_unreachable' },
      { awaited: false, lines: [restored(FIRST), absent(NEXT), ENDED], code: 'target_unreachable' },
      // It ended for another reason: with a code of its own, or while the archive had more.
      {
        awaited: false,
        lines: [absent(NEXT), coded('58P01', 'FATAL:  could not load library')],
        code: 'postgres_failed',
      },
      { awaited: false, lines: [restored(FIRST), ENDED], code: 'postgres_failed' },
    ]
    for (const { awaited, lines, code } of cases) {
      await control('in archive recovery', awaited)
      const error = await startFailure(await specification(), await read(...lines), 'ended')
      expect(error.code, lines.join('\n')).to.equal(code)
    }
    await control('in production', false)
    const unbegun = await startFailure(await specification(), await read(absent(FIRST), ENDED), 'ended')
    expect(unbegun.code).to.equal('wal_missing')
  })

  it('leads to an error that names a timeline of which the archive has no history', async () => {
    await control('in production', false)
    const spec = { ...(await specification()), recoverTo: { type: 'latest', timeline: 7 } } as const
    const error = await startFailure(spec, await read(ENDED), 'ended')
    expect(error).to.include({ code: 'target_unreachable', field: 'recoverTo.timeline' })
  })
})
