import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { inflateRawSync } from 'node:zlib'
import { expect } from 'chai'
import { readControlData } from '../../agents/target/postgres/recovery/control-data.ts'
import { parseControlFile } from '../../agents/target/postgres/recovery/control-file.ts'
import { crc32c } from '../../agents/wal/crc32c.ts'
import { makeCluster, POSTGRES_BIN, postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { binariesOf } from '../support/postgres-majors.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)

/**
 * pg_control of clusters of each version, deflated, which ran with max_connections 100, max_worker_processes 200,
 * max_prepared_transactions 400 and max_locks_per_transaction 500, each more by the version, and with 3 WAL senders.
 */
const FILES: Readonly<Record<string, string>> = {
  '10': 'OzxnR+bSMt7sV8wMDKfPsfIwMkCARTlvNohWuJ0EFqq4BaFhfEYkDALaTAwMvUYIvgoTqhqYeeiAEZsgDgBTm8fAwHCJgYFhFiMDwz+oIAeSuvZrRo4MCiAWEwOEZmB0YIAwz7BDFDNC9SV8Pb5gnoidcqXsr/LcPvVw3wC1G7MuPVDOf7XtKQPzfKVLhytuILsBAA==',
  '11': 'uxDzkmtZGW+2DwsDw+wYdh5GBgiwLOfNBtECSamMyDQjEgYBCyYGBmVjBN+QCVUNzBx0wIhNEAeAqc1nYGC4zMDAMJuRgeE/VJADSV37NSNHBgUQi4kBQjMwOjBAmGfYIYoZofpsC659nVm2nHvHDIuUgvTm228FjqvPW3vVYNciUyMW2VcOlTNz+rG5BQA=',
  '12': 'u7tnyuxlZbzZG1kYGO485uBhZIAAy3LebBDtYJjCiEwzImEQeAZlhJogxO4zYqqDmYcOXjBjE8UOYGYVMDAwXGFgYABpnQMSZIKIc0Dl268ZOTIoMEAkFCBaHRggzDPsEIWMUMPao97OT7aILdBS/Dvh4X+e6+89V2ntvLdPaMb/SZvzp23ftu3l+RBkNwAA',
  '13': 'e9UT6bC8jDdbhJWBYWESFw8jAwRYlvNmg2gJrxhGZJoRCYPAUyjDwwQhdo8RUx3MPHTwghmbKHYAM6uQgYHhKgMDA0jrXJBdTBBxDqh8+zUjRwYFEIuJAUIzMDowQJhn2CEKYWY9+z7168ynl5d+rlJZsEzjwe1dE9nsjWWqTCM31a2PSnfZHmQtXY3sBgA=',
  '14': '+56z99ryMt5sEVYGBt2X3DyMDBBgWc6bDaIv/MtjRKYZkTAI3GWC0A2mCLFrTJjqYOahgxfM2ESxA5hZRSA7GBgYQFrnMTIwMEHdwAGVb79m5MigAGIxMUBoBkYHBgjzDDtEIcysOm5HRbW7UZ+3tJuVJJaeuWJZxb/wXJbGZbVgYTNHyX0K7to79iG7AQA=',
  '16': 'Y5lb1reijDdbhJWB4f9XPh5GBgiwKufNBtE77vkyItOMSBgEbjFB6C0mCLFLTJjqYOahgxfM2ESxA5hZJQwMDDcYGBhAWhcwMjCwQN3AAZVvv2bkyKAAYjExQGgGRgcGCPMMO0QhzCzf+LmBRv8zJdMmVjzK9/qr2Lf/fMadbr0r92bH2Rgte/6nZbnuMmQ3AAA=',
  '18': 'E3xrGrSyjDebg52BwZhBiIeRAQKsynmzwYzNJYzINCMa/sAEUX/YBMIHgRdMqGpQzEMDL5ixiWIHMLPKGBgYbjEwMIC0LmJkYGCDuoEDKt9+zciRQQHEYmKA0AyMDgwQ5hl2iEK4+84YMl7fs9L/Q/RhCbtLj98kH4rPNZp6py/i6tQt/8/HMixjYGBInTRBF+YGAA==',
}

const fileOf = (version: string) => inflateRawSync(Buffer.from(FILES[version] ?? '', 'base64'))

describe('pg_control', function () {
  this.timeout(60_000)
  let directory: string

  before(async () => {
    directory = await scratchDirectory('howdah-control-file-')
    await chmod(directory, 0o711)
    const { uid, gid } = await postgresAccount()
    await chown(directory, uid, gid)
  })
  after(() => rm(directory, { recursive: true, force: true }))

  it('is read in the layout of every version', () => {
    for (const version of Object.keys(FILES)) {
      const { limits, ...rest } = parseControlFile(fileOf(version))
      const more = Number(version)
      expect(limits, version).to.deep.equal({
        max_connections: 100 + more,
        max_worker_processes: 200 + more,
        ...(more >= 12 && { max_wal_senders: 3 }),
        max_prepared_transactions: 400 + more,
        max_locks_per_transaction: 500 + more,
      })
      expect(rest.checkpointTime, version).to.be.within(1_796_044_600, 1_796_044_602)
      expect(rest).to.deep.include({
        state: 'shut down',
        timeline: 1,
        minRecoveryPoint: 0n,
        backupEndAwaited: false,
        walSegmentBytes: 16 * 1024 ** 2,
      })
    }
  })

  it('of 9.6 is that of 10 without the nonce at the end', () => {
    const bytes = fileOf('10')
    bytes.writeUInt32LE(960, 8)
    bytes.writeUInt32LE(crc32c(bytes.subarray(0, 256)), 256)
    expect(parseControlFile(bytes).limits).to.deep.include({ max_connections: 110 })
  })

  it('is refused with a reason when it is damaged, cut off or of an unknown format', () => {
    const damaged = fileOf('16')
    damaged.writeUInt8(damaged.readUInt8(100) ^ 1, 100)
    expect(() => parseControlFile(damaged)).to.throw('checksum')
    expect(() => parseControlFile(fileOf('16').subarray(0, 200))).to.throw('200 bytes')
    const unknown = fileOf('16')
    unknown.writeUInt32LE(1250, 8)
    expect(() => parseControlFile(unknown)).to.throw('unknown version 1250')
    expect(() => parseControlFile(Buffer.alloc(0))).to.throw('unknown version')
  })

  it('of a newer PostgreSQL is not supported, rather than damaged', async () => {
    const mountPoint = join(directory, 'newer')
    const newer = fileOf('18')
    newer.writeUInt32LE(1900, 8)
    await mkdir(join(mountPoint, 'data/global'), { recursive: true })
    await writeFile(join(mountPoint, 'data/global/pg_control'), newer)
    const error = await readControlData({ mountPoint, cachePath: directory }).catch(
      (reason: unknown) => reason,
    )
    expect(error).to.have.property('code', 'backup_unsupported')
    expect(error).to.have.property('message').that.includes('format 1900').and.includes('9.6 to 18')
  })

  it('agrees with pg_controldata, while the server runs and after it was killed', async () => {
    const account = await postgresAccount()
    const cluster = await makeCluster({
      directory,
      account,
      configuration: 'inside',
      settings: { max_connections: '33', max_prepared_transactions: '7' },
    })
    const spec = { mountPoint: directory, cachePath: directory }
    await cluster.start()
    try {
      const control = await readControlData(spec)
      expect(control).to.include({ state: 'in production' })
      expect(control.limits).to.include({ max_connections: 33, max_prepared_transactions: 7 })
    } finally {
      await cluster.stop('immediate')
    }
    const { stdout } = await run(join(POSTGRES_BIN, 'pg_controldata'), [cluster.dataDirectory], {
      env: { LC_ALL: 'C', TZ: 'UTC' },
    })
    const said = new Map(
      stdout.split('\n').map((line) => {
        const colon = line.indexOf(':')
        return [line.slice(0, colon), line.slice(colon + 1).trim()] as const
      }),
    )
    const control = await readControlData(spec)
    expect(control.state).to.equal(said.get('Database cluster state'))
    expect(control.walSegmentBytes).to.equal(Number(said.get('Bytes per WAL segment')))
    expect(control.timeline).to.equal(Number(said.get("Latest checkpoint's TimeLineID")))
    const time = Date.parse(`${said.get('Time of latest checkpoint')} UTC`) / 1000
    expect(control.checkpointTime).to.equal(time)
  })

  it('of a PostgreSQL 17 cluster is read without any of its programs', async () => {
    const mountPoint = join(directory, 'seventeen')
    await mkdir(mountPoint)
    const account = await postgresAccount()
    await chown(mountPoint, account.uid, account.gid)
    const args = ['-D', join(mountPoint, 'data'), '-U', 'postgres', '--no-sync', '--locale=C']
    await runAs(account, join(binariesOf('17'), 'initdb'), [...args, '--wal-segsize=64'])
    const control = await readControlData({ mountPoint, cachePath: directory })
    expect(control).to.include({ state: 'shut down', walSegmentBytes: 64 * 1024 ** 2 })
    expect(control.limits).to.include({ max_connections: 100, max_wal_senders: 10 })
  })

  it('makes the backup damaged where it is missing, permanently torn or a symbolic link', async () => {
    const mountPoint = join(directory, 'damaged')
    const path = join(mountPoint, 'data/global/pg_control')
    const code = () =>
      readControlData({ mountPoint, cachePath: directory }).then(
        () => 'read',
        (error: { code: string }) => error.code,
      )
    await mkdir(join(mountPoint, 'data/global'), { recursive: true })
    expect(await code()).to.equal('backup_damaged')
    await writeFile(path, fileOf('18'))
    expect(await code()).to.equal('read')
    await truncate(path, 100)
    expect(await code()).to.equal('backup_damaged')
    await rm(path)
    await writeFile(`${path}.elsewhere`, fileOf('18'))
    await symlink(`${path}.elsewhere`, path)
    expect(await code()).to.equal('backup_damaged')
    expect((await readFile(`${path}.elsewhere`)).length).to.be.greaterThan(0)
  })
})
