/** Looking for a restore point or a transaction in an archive that is too long to be made: only its summaries are. */
import { expect } from 'chai'
import type { ArchiveMap } from '../../agents/mount/recovery/archive-map.ts'
import { locateTarget, type Search } from '../../agents/mount/recovery/locate-target.ts'
import { parseRecoveryTarget } from '../../agents/mount/recovery/recovery-target.ts'
import type { SegmentSummary } from '../../agents/mount/recovery/segment-summary.ts'
import type { WalInspector } from '../../agents/mount/recovery/wal-inspector.ts'
import type { WalArchive } from '../../agents/mount/repository.ts'
import { formatLsn, segmentStart } from '../../agents/wal/lsn.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { BackupSummary } from '../../messages/values.ts'

const SEGMENT_BYTES = 16 * 1024 * 1024
const FIRST = 1000
const LAST = 21_000

describe('searching for a restore point or a transaction', () => {
  const map: ArchiveMap = {
    segmentBytes: SEGMENT_BYTES,
    segments: new Map([[1, [[FIRST, LAST]]]]),
    paths: new Map([[1, [{ timeline: 1, begin: 0n, end: undefined }]]]),
    histories: new Set(),
    unreadable: new Map(),
    examples: [],
  }
  /** One in the middle of each of these segments. */
  const backupAt = (segment: number): BackupSummary => ({
    label: `at ${segment}`,
    type: 'full',
    postgresVersion: '15',
    timeline: 1,
    startLsn: formatLsn(segmentStart(segment, SEGMENT_BYTES) + 0x100n),
    stopLsn: formatLsn(segmentStart(segment, SEGMENT_BYTES) + 0x800000n),
  })
  const backups: [BackupSummary, ...BackupSummary[]] = [backupAt(20_000), backupAt(10_000), backupAt(FIRST)]
  const archive: WalArchive = {
    id: 'of the test',
    list: () => Promise.reject(new Error('unexpected: list')),
    read: () => Promise.reject(new Error('unexpected: read')),
    stat: () => Promise.reject(new Error('unexpected call')),
  }
  const at = (segment: number) => segmentStart(segment, SEGMENT_BYTES) + 0xc00000n

  let read: number[]
  /** @param points in which segments there are restore points `p` */
  function inspector(points: readonly number[], damaged?: number): WalInspector {
    return {
      async summary(_, { segment }): Promise<SegmentSummary> {
        read.push(segment)
        if (segment === damaged) throw new HowdahError('backup_damaged', 'of the test')
        return {
          lastStart: undefined,
          lastEnd: undefined,
          lastTime: undefined,
          lastCommit: undefined,
          lastCommitLsn: undefined,
          points: points.includes(segment) ? [{ name: 'p', lsn: at(segment), time: 0 }] : [],
          xids: undefined,
          backupEnds: [],
          cluster: '1',
        }
      },
      findXid: async (_, { segment }) =>
        points.includes(segment) ? { lsn: at(segment), time: 0 } : undefined,
      commitUntil: () => Promise.reject(new Error('unexpected call')),
      end: () => Promise.reject(new Error('unexpected call')),
    }
  }
  const locate = (type: 'name' | 'xid', of: WalInspector, search: Search = {}) =>
    locateTarget(
      parseRecoveryTarget({ type, value: type === 'name' ? 'p' : '700' }),
      backups,
      archive,
      map,
      of,
      search,
    )
  beforeEach(() => {
    read = []
  })

  it('goes back to the end of the oldest backup, and reports its progress', async () => {
    const progress: string[] = []
    const search = { progress: (detail: string) => progress.push(detail) }
    expect(await locate('name', inspector([1005]), search)).to.deep.include({ kind: 'at', lsn: at(1005) })
    expect(progress[99]).to.equal(`looking for restore point "p": 100 of ${LAST - FIRST + 1} WAL segments`)
    expect(await locate('xid', inspector([1005]))).to.deep.include({ kind: 'at', lsn: at(1005) })
    expect(await locate('name', inspector([]))).to.include({ kind: 'absent' })
  })

  it('stops at the backup from which recovery to it starts, and reports others after that', async () => {
    const found = await locate('name', inspector([1005, 10_003, 10_007, 15_000]))
    expect(found).to.deep.equal({ kind: 'at', lsn: at(15_000), others: [at(10_003), at(10_007)] })
    expect(read.at(-1)).to.equal(10_000)
  })

  it('is cancelled', async () => {
    const abort = new AbortController()
    const progress = () => abort.abort(new Error('enough'))
    const work = locate('name', inspector([1005]), { signal: abort.signal, progress })
    expect(await work.catch((error: Error) => error.message)).to.equal('enough')
    expect(read.length).to.be.below(5)
  })

  it('has no result when its time is over, and when the target may be in a damaged segment', async () => {
    expect(await locate('name', inspector([1005]), { isOver: () => read.length >= 50 })).to.deep.equal({
      kind: 'unknown',
      before: segmentStart(LAST - 49, SEGMENT_BYTES),
    })
    expect(await locate('name', inspector([], 5000))).to.deep.equal({
      kind: 'unknown',
      before: segmentStart(5000, SEGMENT_BYTES),
    })
    expect(await locate('name', inspector([1005], 5000))).to.include({ kind: 'at' })
  })
})
