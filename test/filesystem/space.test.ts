import { expect } from 'chai'
import { BLOCK } from '../../agents/target/filesystem/contents/block-map.ts'
import { FileSystemError } from '../../agents/target/filesystem/file-system.ts'
import { Space } from '../../agents/target/filesystem/space/space.ts'
import { type SpaceUse, useOfWrite } from '../../agents/target/filesystem/space/space-use.ts'
import { WalUsage } from '../../agents/target/filesystem/space/wal-usage.ts'

const MiB = 1024 * 1024

/** Takes room block by block until it is refused; gives the bytes taken. */
function takeAll(space: Space, use: SpaceUse, limit = 1_000_000): number {
  let taken = 0
  try {
    for (; taken < limit; taken++) space.allocate(1, use)
  } catch (error) {
    if (!(error instanceof FileSystemError) || error.errno !== 'ENOSPC') throw error
  }
  return taken * BLOCK
}

describe('space of the write cache', () => {
  const quotaBytes = 320 * MiB

  it('refuses growth of large files first, then of small ones, and overwriting last', () => {
    const space = new Space('/tmp', { quotaBytes, reserveBytes: 0 })
    const uses: SpaceUse[] = ['growth', 'allocation', 'small-growth', 'overwrite']
    expect(uses.map((use) => takeAll(space, use))).to.deep.equal([310 * MiB, 0, 5 * MiB, 5 * MiB])
    space.release((15 * MiB) / BLOCK)
    expect(takeAll(space, 'growth')).to.equal(5 * MiB)
  })

  it('has space for a restart of PostgreSQL, even beyond the quota, until it has started', () => {
    const space = new Space('/tmp', { quotaBytes, reserveBytes: 0 })
    takeAll(space, 'overwrite')
    space.starting = true
    expect(takeAll(space, 'growth')).to.equal(5 * MiB)
    space.starting = false
    expect(takeAll(space, 'overwrite')).to.equal(0)
  })

  it('has that space also when its limits were reduced below what it uses', () => {
    const space = new Space('/tmp', { quotaBytes, reserveBytes: 0 })
    takeAll(space, 'growth')
    space.limit({ quotaBytes, shareBytes: 100 * MiB })
    expect(takeAll(space, 'overwrite')).to.equal(0)
    space.starting = true
    expect(takeAll(space, 'growth')).to.be.greaterThan(4 * MiB)
  })

  it('classifies writes by where they end', () => {
    expect(useOfWrite(3 * MiB, 4 * MiB, false)).to.equal('overwrite')
    expect(useOfWrite(MiB, MiB - 1, false)).to.equal('small-growth')
    expect(useOfWrite(MiB + 1, MiB, false)).to.equal('growth')
    expect(useOfWrite(MiB + 1, MiB, true)).to.equal('accepted')
  })

  it('is near full as soon as the kernel’s bound of dirty pages grows', () => {
    const space = new Space('/tmp', { quotaBytes, reserveBytes: 0, marginBytes: 20 * MiB })
    takeAll(space, 'growth', (100 * MiB) / BLOCK)
    expect(space.nearFull).to.equal(false)
    space.setMargin(250 * MiB)
    expect(space.nearFull).to.equal(true)
    space.setMargin(20 * MiB)
    expect(space.nearFull).to.equal(false)
  })

  it('is near full while the kernel’s dirty pages could fill it, and refuses only later writes', () => {
    const marginBytes = 20 * MiB
    const space = new Space('/tmp', { quotaBytes, reserveBytes: 0, marginBytes })
    takeAll(space, 'growth', (290 * MiB) / BLOCK)
    expect(space.nearFull).to.equal(false)
    space.allocate(1, 'accepted')
    expect(space.nearFull).to.equal(true)
    takeAll(space, 'accepted', (5 * MiB) / BLOCK)
    takeAll(space, 'growth', (20 * MiB) / BLOCK)
    expect(takeAll(space, 'allocation')).to.equal(0)
    space.flushed()
    expect(takeAll(space, 'growth')).to.equal(0)
    expect(takeAll(space, 'accepted', 10)).to.equal(10 * BLOCK)
  })

  it('is no longer near full when one and a half times the margin is free', () => {
    const marginBytes = 20 * MiB
    const space = new Space('/tmp', { quotaBytes, reserveBytes: 0, marginBytes })
    takeAll(space, 'growth', (292 * MiB) / BLOCK)
    space.flushed()
    space.release((11 * MiB) / BLOCK)
    expect(space.nearFull).to.equal(true)
    space.release(MiB / BLOCK)
    expect(space.nearFull).to.equal(false)
    takeAll(space, 'growth', (11 * MiB) / BLOCK)
    expect(space.nearFull).to.equal(true)
    expect(takeAll(space, 'growth', 10_000)).to.equal(10_000 * BLOCK)
  })

  describe('with a share of the space of all write caches', () => {
    const shareBytes = 320 * MiB
    let walBytes = 0
    let milliseconds = 0
    const makeSpace = (marginBytes = 0) => {
      walBytes = 0
      const wal = new WalUsage({ measure: () => walBytes, now: () => milliseconds })
      return new Space('/tmp', { shareBytes, reserveBytes: 0, marginBytes }, wal)
    }
    const writeWal = (bytes: number) => {
      walBytes += bytes
      milliseconds += 1000
    }

    it('sets 64 MiB of it aside for WAL, or an eighth', () => {
      const space = makeSpace()
      expect(takeAll(space, 'overwrite')).to.equal(256 * MiB)
      writeWal(64 * MiB)
      expect(space.usage()).to.include({ walBytes: 64 * MiB, committedBytes: shareBytes })
    })

    it('lets files grow by what WAL leaves, at the moment of the write', () => {
      const space = makeSpace()
      takeAll(space, 'growth', (100 * MiB) / BLOCK)
      writeWal(150 * MiB)
      expect(takeAll(space, 'growth')).to.equal(62 * MiB)
      // PostgreSQL removed segments.
      writeWal(-100 * MiB)
      expect(takeAll(space, 'growth')).to.equal(86 * MiB)
    })

    it('lets PostgreSQL complete a checkpoint however much WAL there is', () => {
      const space = makeSpace()
      takeAll(space, 'growth')
      writeWal(500 * MiB)
      expect(takeAll(space, 'growth')).to.equal(0)
      expect(takeAll(space, 'small-growth')).to.equal(4 * MiB)
      expect(takeAll(space, 'overwrite')).to.equal(4 * MiB)
    })

    it('is bounded by its own quota, too, in which WAL does not count', () => {
      const space = makeSpace()
      space.limit({ quotaBytes: 64 * MiB, shareBytes })
      writeWal(100 * MiB)
      expect(space.usage().quotaBytes).to.equal(64 * MiB)
      expect(takeAll(space, 'overwrite')).to.equal(64 * MiB)
    })

    it('reports that it may use more than a share that was reduced, as far as it does already', () => {
      const space = makeSpace()
      takeAll(space, 'overwrite', (200 * MiB) / BLOCK)
      writeWal(10 * MiB)
      space.limit({ shareBytes: 100 * MiB })
      expect(space.usage()).to.include({
        changedBytes: 200 * MiB,
        walBytes: 10 * MiB,
        committedBytes: 210 * MiB,
      })
      expect(takeAll(space, 'overwrite')).to.equal(0)
    })

    it('reports what the kernel may have accepted until that is written back', () => {
      const space = makeSpace(20 * MiB)
      takeAll(space, 'accepted', (200 * MiB) / BLOCK)
      space.limit({ shareBytes: 200 * MiB })
      expect(space.nearFull).to.equal(true)
      expect(space.usage().committedBytes).to.equal(220 * MiB)
      space.flushed()
      expect(space.usage().committedBytes).to.equal(200 * MiB)
    })

    it('is near full when WAL has left less than the kernel may have accepted', () => {
      const space = makeSpace(20 * MiB)
      takeAll(space, 'growth', (200 * MiB) / BLOCK)
      expect(space.nearFull).to.equal(false)
      writeWal(100 * MiB)
      space.check()
      expect(space.nearFull).to.equal(true)
    })
  })

  it('keeps the reserve of the disk free, half of which is available to overwriting', () => {
    const { blockSize, availableBlocks } = new Space('/tmp', { reserveBytes: 0 }).statistics()
    const space = new Space('/tmp', { reserveBytes: blockSize * availableBlocks + 100 * MiB })
    expect(space.statistics().availableBlocks).to.equal(0)
    expect(takeAll(space, 'growth', 10)).to.equal(0)
    expect(takeAll(space, 'overwrite', 10)).to.equal(10 * BLOCK)
  })
})
