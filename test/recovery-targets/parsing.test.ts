/** Recovery targets and timelines as they are written, without any archive. */
import { expect } from 'chai'
import { formatTime, isoTime, parseRecoveryTarget } from '../../agents/mount/recovery/recovery-target.ts'
import { isOnPath, segmentsOnPath, timelinePath } from '../../agents/mount/recovery/timelines.ts'
import { parseSegmentName, segmentName } from '../../agents/wal/lsn.ts'
import type { HowdahError } from '../../messages/errors.ts'
import type { RecoverTo } from '../../messages/values.ts'

const MIB = 1024 * 1024

describe('a recovery target', () => {
  const timeOf = (value: string) => {
    const target = parseRecoveryTarget({ type: 'time', value })
    return target.type === 'time' ? formatTime(target.time) : target.type
  }
  const refusal = (recoverTo: RecoverTo): HowdahError => {
    try {
      parseRecoveryTarget(recoverTo)
    } catch (error) {
      return error as HowdahError
    }
    return expect.fail(`it took ${recoverTo.value}`)
  }

  it('may be a time in any zone, as PostgreSQL and as ISO 8601 write it, to the microsecond', () => {
    const same = [
      '2026-11-22 14:02:11.000001+00',
      '2026-11-22T14:02:11.000001Z',
      '2026-11-22 14:02:11.000001 UTC',
      '2026-11-22 15:02:11.000001+01',
      '2026-11-22 19:32:11.000001+0530',
      '2026-11-22T19:32:11.000001+05:30',
      '2026-11-22 09:02:11.000001-05',
    ]
    for (const value of same) expect(timeOf(value), value).to.equal('2026-11-22 14:02:11.000001 UTC')
    expect(timeOf('2026-11-22 14:02Z')).to.equal('2026-11-22 14:02:00 UTC')
    expect(timeOf('1999-12-31 23:59:59.9Z')).to.equal('1999-12-31 23:59:59.9 UTC')
  })

  it('is refused without a time zone, and when no calendar has it', () => {
    const zone = refusal({ type: 'time', value: '2026-11-22 14:02:11' })
    expect(zone).to.include({ code: 'invalid_message', field: 'recoverTo.value' })
    expect(zone.message).to.include('names no time zone')
    for (const value of ['2026-02-30 00:00Z', '2026-13-01 00:00Z', '2026-11-22 25:00Z', 'yesterday', '0']) {
      expect(refusal({ type: 'time', value }).code, value).to.equal('invalid_message')
    }
  })

  it('is refused without its value, and with one of another kind', () => {
    expect(refusal({ type: 'lsn' }).message).to.include('needs its value')
    expect(refusal({ type: 'lsn', value: '16/B374D848/1' }).message).to.include('is not an LSN')
    expect(refusal({ type: 'xid', value: '-1' }).message).to.include('is not a transaction number')
    expect(refusal({ type: 'name', value: 'x'.repeat(64) }).message).to.include('63 bytes')
  })

  it('is a transaction by the lower 32 bits of its number, as PostgreSQL compares', () => {
    expect(parseRecoveryTarget({ type: 'xid', value: String(2n ** 32n + 726n) })).to.include({ xid: 726 })
  })

  it('is on the latest timeline, but that of the backup for its end', () => {
    expect(parseRecoveryTarget({ type: 'latest' }).timeline).to.equal('latest')
    expect(parseRecoveryTarget({ type: 'immediate' }).timeline).to.equal('current')
  })

  it('is reported as ISO 8601 with all its microseconds', () => {
    expect(isoTime(1_795_326_795_488_157)).to.equal('2026-11-22T05:53:15.488157Z')
    expect(isoTime(Number.MAX_SAFE_INTEGER * 1000)).to.equal(undefined)
  })
})

describe('a timeline', () => {
  const history = '1\t0/5000000\tno recovery target specified\n\n2\t1/C000060\tbefore 2026\n'

  it('goes through its ancestors up to where it left each', () => {
    expect(timelinePath(3, history)).to.deep.equal([
      { timeline: 1, begin: 0n, end: 0x5000000n },
      { timeline: 2, begin: 0x5000000n, end: 0x1_0c00_0060n },
      { timeline: 3, begin: 0x1_0c00_0060n, end: undefined },
    ])
    expect(timelinePath(1, undefined)).to.deep.equal([{ timeline: 1, begin: 0n, end: undefined }])
  })

  it('has none when its history is damaged', () => {
    for (const text of ['one\t0/5', '1\tnowhere', '1\t0/5\n1\t0/6', '3\t0/5', '1\t0/6\n2\t0/5']) {
      expect(timelinePath(3, text), text).to.equal(undefined)
    }
  })

  it('can be reached from backups that ended before it left theirs', () => {
    const path = timelinePath(3, history) ?? []
    expect(isOnPath(path, 1, 0x5000000n)).to.equal(true)
    expect(isOnPath(path, 1, 0x5000001n)).to.equal(false)
    expect(isOnPath(path, 3, 0x2_0000_0000n)).to.equal(true)
    expect(isOnPath(path, 4, 0n)).to.equal(false)
  })

  it('begins within a segment that its ancestor has too, and its own comes first', () => {
    const path = timelinePath(3, history) ?? []
    const size = 16 * MIB
    const names = (segment: number) => segmentsOnPath(path, segment, size).map(({ name }) => name)
    expect(names(0x4)).to.deep.equal(['000000010000000000000004'])
    expect(names(0x5)).to.deep.equal(['000000020000000000000005', '000000010000000000000005'])
    expect(names(0x10c)).to.deep.equal(['00000003000000010000000C', '00000002000000010000000C'])
    expect(segmentsOnPath(path, 0x10c, size)[1]?.before).to.equal(0x1_0c00_0060n)
  })

  it('names its segments by their size', () => {
    for (const [size, name] of [
      [MIB, '00000001000000010000000C'],
      [16 * MIB, '0000000100000010000000C0'],
      [1024 * MIB, '000000010000000200000003'],
    ] as const) {
      const found = parseSegmentName(name, size)
      expect(segmentName(found?.timeline ?? 0, found?.segment ?? 0, size), String(size)).to.equal(name)
    }
    expect(parseSegmentName('000000010000000000000100', 16 * MIB)).to.equal(undefined)
  })
})
