import { expect } from 'chai'
import { BLOCK } from '../../agents/target/filesystem/contents/block-map.ts'
import { FileSystemError } from '../../agents/target/filesystem/file-system.ts'
import { Space, type SpaceUse, useOfWrite } from '../../agents/target/filesystem/space/space.ts'

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

  it('keeps the reserve of the disk free, half of which is available to overwriting', () => {
    const { blockSize, availableBlocks } = new Space('/tmp', { reserveBytes: 0 }).statistics()
    const space = new Space('/tmp', { reserveBytes: blockSize * availableBlocks + 100 * MiB })
    expect(space.statistics().availableBlocks).to.equal(0)
    expect(takeAll(space, 'growth', 10)).to.equal(0)
    expect(takeAll(space, 'overwrite', 10)).to.equal(10 * BLOCK)
  })
})
