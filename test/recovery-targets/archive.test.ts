/** What the archive of a real production can reach, with PostgreSQL's own pg_waldump as the judge of what is in it. */
import { readdir, readFile, rename, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { readDatabases } from '../../agents/mount/catalog/databases.ts'
import { openRepository } from '../../agents/mount/formats/open-repository.ts'
import { createArchiveKnowledge } from '../../agents/mount/recovery/instance-archive.ts'
import { instanceWindows, inUtc } from '../../agents/mount/recovery/windows.ts'
import { checkBackup } from '../../agents/mount/resolve.ts'
import { serveRepositories } from '../../agents/mount/served-repositories.ts'
import { segmentNames } from '../../agents/mount/wal-listing.ts'
import { parseSegmentName, segmentStart } from '../../agents/wal/lsn.ts'
import { scanSegment } from '../../agents/wal/scan-segment.ts'
import { isStop, recoveryStop } from '../../agents/wal/wal-records.ts'
import type { HowdahError } from '../../messages/errors.ts'
import type { RecoverableWindow, RecoverTo } from '../../messages/values.ts'
import { quiet } from '../repository/fixture.ts'
import { POSTGRES_MAJOR } from '../support/installed-postgres.ts'
import { type History, makeHistory, type Planner, planner } from './history.ts'
import { dumpedStops, type NamedSegment, paddedLsn, stopLine, waldump } from './waldump.ts'

const SEGMENT_BYTES = 16 * 1024 * 1024

describe('what an archive can reach', function () {
  this.timeout(180_000)
  let history: History
  let planned: Planner

  before(async () => {
    history = await makeHistory()
    planned = await planner(history.production.path, 'shop', join(history.scratch, 'spool'))
  })
  after(async () => {
    await planned?.spool.close()
    await history?.remove()
  })

  const production = () => history.production
  const plan: Planner['plan'] = (...args) => planned.plan(...args)
  const refused = async (...args: Parameters<Planner['plan']>): Promise<HowdahError> =>
    plan(...args).then(
      (made) => expect.fail(`it planned ${JSON.stringify(made.backup.label)}`),
      (error) => error,
    )

  /** All segments of the archive, decoded, with their names. */
  async function segments(timeline: number): Promise<NamedSegment[]> {
    const [backup] = await planned.instance.backups()
    if (backup === undefined) throw new Error('there is no backup')
    const archive = await planned.instance.wal(backup)
    const names = [...segmentNames(await archive.list())].filter(
      (name) => Number.parseInt(name.slice(0, 8), 16) === timeline,
    )
    return Promise.all(
      names.sort().map(async (name): Promise<NamedSegment> => {
        const bytes = await archive.read(name)
        if (bytes === undefined) throw new Error(`${name} is not there`)
        return [name, bytes]
      }),
    )
  }

  describe('reading WAL', () => {
    it('finds exactly the commits, aborts and restore points that pg_waldump finds, over all segments', async () => {
      for (const timeline of [1, 2]) {
        const found = await segments(timeline)
        const ours: string[] = []
        for (const [index, [name, bytes]] of found.entries()) {
          const segment = parseSegmentName(name, SEGMENT_BYTES)?.segment ?? -1
          const options = {
            base: segmentStart(segment, SEGMENT_BYTES),
            wanted: isStop,
            visit: (record: Parameters<typeof recoveryStop>[0]) => {
              const stop = recoveryStop(record)
              if (stop !== undefined) ours.push(stopLine(stop))
            },
          }
          const scan = scanSegment(bytes, options)
          const next = found[index + 1]?.[1]
          if (scan.unfinished !== undefined && next !== undefined) {
            scanSegment(bytes, { ...options, next, from: scan.unfinished })
          }
        }
        const theirs = await dumpedStops(found, history.scratch)
        expect(theirs.length).to.be.greaterThan(timeline === 1 ? 20 : 5)
        expect(ours).to.deep.equal(theirs)
      }
    })

    it('finds the xids of prepared transactions, and not only of those that end by themselves', async () => {
      const found = await segments(1)
      const dump = await waldump(found, history.scratch)
      const [, xid] = /desc: COMMIT_PREPARED (\d+):/.exec(dump) ?? []
      const { backup } = await plan({ type: 'xid', value: String(xid) })
      expect(backup.label).to.equal(history.first)
    })

    it('ignores a record that does not match its checksum', async () => {
      const [name, bytes] = (await segments(2)).at(-1) ?? ['', Buffer.alloc(0)]
      const base = segmentStart(parseSegmentName(name, SEGMENT_BYTES)?.segment ?? -1, SEGMENT_BYTES)
      const options = { base, wanted: () => false, visit: () => undefined }
      const { lastStart } = scanSegment(bytes, options)
      const torn = Buffer.from(bytes)
      const at = Number((lastStart ?? base) - base) + 4
      torn[at] = (torn[at] ?? 0) ^ 1
      expect(scanSegment(torn, options).lastStart).to.satisfy((lsn: bigint) => lsn < (lastStart ?? 0n))
    })

    it('finds where the last record of a segment is', async () => {
      for (const [name, bytes] of await segments(2)) {
        const segment = parseSegmentName(name, SEGMENT_BYTES)?.segment ?? -1
        const scan = scanSegment(bytes, {
          base: segmentStart(segment, SEGMENT_BYTES),
          wanted: () => false,
          visit: () => undefined,
        })
        const [last] = (await waldump([[name, bytes]], history.scratch)).trimEnd().split('\n').slice(-1)
        expect(last, name).to.match(new RegExp(`lsn: ${paddedLsn(scan.lastStart ?? 0n)},`))
      }
    })
  })

  describe('the backup that is chosen', () => {
    it('is the newest one for the end of the archive and for the end of the backup', async () => {
      expect((await plan({ type: 'latest' })).backup.label).to.equal(history.third)
      expect((await plan({ type: 'immediate' })).backup.label).to.equal(history.third)
    })

    it('is the newest that ended before a time, an LSN, a restore point or a transaction', async () => {
      const { early, late, lateXid, first, second } = history
      const chosen = async (...args: Parameters<Planner['plan']>) => (await plan(...args)).backup.label
      expect(await chosen({ type: 'time', value: early.time })).to.equal(first)
      expect(await chosen({ type: 'time', value: late.time })).to.equal(second)
      expect(await chosen({ type: 'lsn', value: early.lsn })).to.equal(first)
      expect(await chosen({ type: 'lsn', value: late.lsn })).to.equal(second)
      expect(await chosen({ type: 'name', value: 'early' })).to.equal(first)
      expect(await chosen({ type: 'name', value: 'late' })).to.equal(second)
      expect(await chosen({ type: 'xid', value: lateXid })).to.equal(second)
      expect(await chosen({ type: 'time', value: history.onSecond.time })).to.equal(second)
    })

    it('may have ended in the same second as the time: only the WAL shows which came first', async () => {
      const { second } = history
      const backups = await planned.instance.backups()
      const stop = backups.find(({ label }) => label === second)?.stoppedAt
      const value = String(stop).replace('.000Z', '.5Z')
      expect((await plan({ type: 'time', value })).backup.label).to.equal(second)
    })

    it('is on the path to the requested timeline', async () => {
      expect((await plan({ type: 'latest', timeline: 1 })).backup.label).to.equal(history.second)
      const onSecond = { type: 'name', value: 'on second' } as const
      expect((await plan(onSecond, history.second)).backup.label).to.equal(history.second)
      const error = await refused({ type: 'latest', timeline: 1 }, history.third)
      expect(error.code).to.equal('target_unreachable')
      expect(error.message).to.include('is not on the way to timeline 1')
    })

    it('may be named, if it ended before the target', async () => {
      const { first, second, early, late } = history
      expect((await plan({ type: 'time', value: late.time }, first)).backup.label).to.equal(first)
      const error = await refused({ type: 'time', value: early.time }, second)
      expect(error.code).to.equal('target_unreachable')
      expect(error.message).to.match(
        /backup \S+ ended at .* UTC \(LSN .*\), after .* UTC: take an older backup/,
      )
      expect((await refused({ type: 'lsn', value: early.lsn }, second)).code).to.equal('target_unreachable')
      const name = await refused({ type: 'name', value: 'early' }, second)
      expect(name.message).to.include('has no restore point "early" after the end of backup')
    })
  })

  describe('a target that cannot be reached', () => {
    it('is the end of the archive with a warning that names the last commit, for a time after that', async () => {
      const made = await plan({ type: 'time', value: '2199-01-01 00:00:00+00' })
      expect(made.recoverTo).to.deep.equal({ type: 'latest' })
      const [warning] = made.warnings
      expect(warning?.message).to.include(`the last commit in the archive is of ${await lastCommit(2)}`)
    })

    it('is reached when at least one transaction ended after it, to the microsecond', async () => {
      const last = await lastCommit(2)
      const justBefore = { type: 'time' as const, value: last, inclusive: false }
      expect((await plan(justBefore)).recoverTo).to.equal(undefined)
      expect((await plan({ ...justBefore, inclusive: true })).recoverTo).to.deep.equal({ type: 'latest' })
    })

    it('is refused for a time before the first backup, with what is possible', async () => {
      const error = await refused({ type: 'time', value: '2001-01-01 00:00:00+00' })
      expect(error.code).to.equal('target_unreachable')
      expect(error.message).to.match(
        /the archive of main\/shop reaches from .* UTC to .* \(last commit\) on timeline 2/,
      )
    })

    it('is refused for an LSN beyond the end, which it names', async () => {
      const error = await refused({ type: 'lsn', value: '7F/0' })
      expect(error.code).to.equal('target_unreachable')
      expect(error.message).to.match(/the last record in the archive is at LSN [0-9A-F]+\/[0-9A-F]+/)
    })

    it('is refused for a restore point that does not exist, with those that do', async () => {
      const error = await refused({ type: 'name', value: 'nowhere' })
      expect(error.code).to.equal('target_unreachable')
      expect(error.message).to.match(/restore points in the archive: .*"early" \(.* UTC\).*"on second"/)
      expect(error.message).to.not.include('Archive Check')
    })

    it('is refused for a transaction and for a timeline that do not exist', async () => {
      expect((await refused({ type: 'xid', value: '4000000000' })).code).to.equal('target_unreachable')
      const error = await refused({ type: 'latest', timeline: 7 })
      expect(error.message).to.include('the archive has no timeline 7; there are: 1, 2')
    })
  })

  describe('a segment that is missing', () => {
    let file: string
    let name: string

    // The one after that in which the second backup ended, on timeline 1.
    before(async () => {
      const { late, production } = history
      const log = join(production.path, 'archive', 'shop', `${POSTGRES_MAJOR}-1`, '0000000100000000')
      const number = Number(BigInt(`0x${late.lsn.split('/')[1]}`) / BigInt(SEGMENT_BYTES))
      name = `0000000100000000${number.toString(16).toUpperCase().padStart(8, '0')}`
      file = join(log, (await readdir(log)).find((entry) => entry.startsWith(`${name}-`)) ?? '')
      await rename(file, `${file}.away`)
      // What comes after it has been there for long.
      const old = new Date(Date.now() - 3_600_000)
      for (const timeline of ['00000001', '00000002']) {
        const directory = join(
          production.path,
          'archive',
          'shop',
          `${POSTGRES_MAJOR}-1`,
          `${timeline}00000000`,
        )
        for (const entry of await readdir(directory)) await utimes(join(directory, entry), old, old)
      }
    })
    after(() => rename(`${file}.away`, file))

    it('is named when it comes before the target, with what can be reached', async () => {
      for (const recoverTo of [
        { type: 'latest' },
        { type: 'time', value: history.onSecond.time },
        { type: 'lsn', value: history.onSecond.lsn },
      ] as const) {
        const error = await refused(recoverTo, history.first)
        expect(error.code, recoverTo.type).to.equal('wal_missing')
        expect(error.message).to.include(`lacks WAL segment ${name}`)
        expect(error.message).to.include(`where WAL segment ${name} is missing`)
      }
    })

    it('does not matter to a target before it, nor to a backup after it', async () => {
      expect((await plan({ type: 'name', value: 'early' })).backup.label).to.equal(history.first)
      expect((await plan({ type: 'latest' })).backup.label).to.equal(history.third)
    })

    it('divides the windows', async () => {
      const onSecond = (await windows()).filter(({ timeline }) => timeline === 2)
      expect(onSecond.map(({ missingWal }) => missingWal)).to.deep.equal([name, undefined])
      expect(onSecond[1]?.backups).to.deep.equal([history.third])
    })
  })

  it('lists windows for each timeline, from the end of the first backup to the last commit', async () => {
    const found = await windows()
    expect(found.map(({ timeline, backups }) => [timeline, backups])).to.deep.equal([
      [1, [history.first, history.second]],
      [2, [history.first, history.second, history.third]],
    ])
    const [, second] = found
    expect(inUtc(second?.to ?? '')).to.equal(await lastCommit(2))
    const { instance } = planned
    const [first] = await instance.backups()
    expect(second?.from).to.equal(first?.stoppedAt)
  })

  it('lists them again without reading WAL that it has read', async () => {
    const { instance } = planned
    const knowledge = createArchiveKnowledge()
    const backups = await instance.backups()
    const first = await instanceWindows(instance, backups, knowledge)
    let reads = 0
    const counted = {
      ...instance,
      wal: async (...args: Parameters<typeof instance.wal>) => {
        const archive = await instance.wal(...args)
        const read = (name: string) => {
          if (!name.endsWith('.history')) reads += 1
          return archive.read(name)
        }
        return { ...archive, read }
      },
    }
    expect(await instanceWindows(counted, backups, knowledge)).to.deep.equal(first)
    expect(reads).to.equal(0)
  })

  describe('the query backup.check', () => {
    const check = async (recoverTo: RecoverTo, backup = 'latest') => {
      const { spool } = planned
      const options = { name: 'main', format: 'pgbackrest', path: history.production.path } as const
      const repository = openRepository(options, { spool, logger: quiet })
      const answer = await checkBackup(
        {
          repositories: serveRepositories('local', [{ options, repository }]),
          knowledge: createArchiveKnowledge(),
          dataPlane: { mountAgent: 'local', host: '127.0.0.1', port: 1 },
          sign: () => expect.fail('it signed a ticket'),
          now: Date.now,
        },
        { repository: 'main', instance: 'shop', backup, recoverTo, target: 'local', options: {} },
      )
      if (!answer.accepted) throw new Error(answer.error.message)
      return answer
    }

    it('answers with the result of resolve and its warnings, without a ticket', async () => {
      const { resolved, findings } = await check({ type: 'time', value: '2199-01-01 00:00:00+00' })
      expect(resolved?.backup.label).to.equal(history.third)
      expect(resolved?.recoverTo).to.deep.equal({ type: 'latest' })
      expect(resolved?.walBytes).to.be.greaterThan(0)
      expect(resolved?.catalog?.locales.flatMap(({ named }) => named)).to.include.members(['shop', 'Kontor'])
      expect(resolved?.dataPlane.ticket).to.equal('')
      expect(findings.map(({ level }) => level)).to.deep.equal(['warning'])
    })

    it('reports that the target cannot be reached, and that the backup cannot be opened', async () => {
      const manifest = join(history.production.path, 'backup/shop', history.second, 'backup.manifest')
      const files = [manifest, `${manifest}.copy`]
      const before = await Promise.all(files.map((file) => readFile(file)))
      const damaged = before.map((bytes) =>
        Buffer.from(bytes.toString('latin1').replace('"size":', '"size" :'), 'latin1'),
      )
      await Promise.all(files.map((file, index) => writeFile(file, damaged[index] ?? '')))
      const { resolved, findings } = await check({ type: 'lsn', value: '7F/0' }, history.second).finally(() =>
        Promise.all(files.map((file, index) => writeFile(file, before[index] ?? ''))),
      )
      expect(resolved).to.equal(undefined)
      expect(findings.map(({ level, code }) => [level, code])).to.deep.equal([
        ['error', 'target_unreachable'],
        ['error', 'backup_damaged'],
      ])
    })
  })

  it('reads the databases of a backup as PostgreSQL has them', async () => {
    const theirs = await production().sql(
      `select datname, datcollate, datctype, datlocprovider, coalesce(datcollversion, '') from pg_database
       where datallowconn order by datname`,
    )
    const backup = await planned.instance.open(history.first)
    const ours = await readDatabases(backup)
    await backup.close()
    const letters = { libc: 'c', icu: 'i', builtin: 'b' } as const
    const lines = ours?.map(({ name, collate, ctype, provider, collationVersion }) =>
      [name, collate, ctype, letters[provider ?? 'libc'], collationVersion ?? ''].join('|'),
    )
    expect(lines?.sort()).to.deep.equal(theirs.split('\n').sort())
    for (const { name, extensions } of ours ?? []) {
      const there = await production().sql('select extname from pg_extension order by extname', name)
      expect(extensions, name).to.deep.equal(there.split('\n'))
    }
  })

  async function windows(): Promise<RecoverableWindow[]> {
    const { instance } = planned
    return (await instanceWindows(instance, await instance.backups(), createArchiveKnowledge())).windows
  }

  async function lastCommit(timeline: number): Promise<string> {
    const commits = (await dumpedStops(await segments(timeline), history.scratch)).filter((one) =>
      one.startsWith('commit'),
    )
    return (
      commits
        .map((one) => one.split(' ').slice(2).join(' '))
        .sort()
        .at(-1) ?? 'never'
    )
  }
})
