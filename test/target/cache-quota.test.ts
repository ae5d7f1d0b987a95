import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { createCacheQuota } from '../../agents/target/room/cache-quota.ts'

describe('The quota of write caches', () => {
  it('is unlimited by default', () => {
    const room = createCacheQuota({ quotaBytes: 0, limitBytes: null })
    room.add('a')
    expect(room.quotaOf('a')).to.equal(undefined)
  })

  it('is the limit of one session, if only that is configured', () => {
    const room = createCacheQuota({ quotaBytes: 100, limitBytes: null })
    room.update('a', { changedBytes: 90, otherBytes: 50 })
    expect(room.quotaOf('a')).to.equal(100)
  })

  it('is divided among growing sessions, in addition to what each uses', () => {
    const room = createCacheQuota({ quotaBytes: 0, limitBytes: 1000 })
    room.update('a', { changedBytes: 500, otherBytes: 100 })
    room.update('b', { changedBytes: 0, otherBytes: 100 })
    expect([room.quotaOf('a'), room.quotaOf('b')]).to.deep.equal([650, 150])
    room.add('c')
    expect([room.quotaOf('a'), room.quotaOf('b'), room.quotaOf('c')]).to.deep.equal([600, 100, 100])
  })

  it('never lets quotas and other usage together exceed the limit', () => {
    const room = createCacheQuota({ quotaBytes: 700, limitBytes: 1000 })
    const others = [0, 64, 320] as const
    for (const [index, otherBytes] of others.entries()) {
      room.update(`s${index}`, { changedBytes: index * 150, otherBytes })
    }
    const quotas = others.map((other, index) => other + (room.quotaOf(`s${index}`) ?? 0))
    expect(quotas.reduce((sum, one) => sum + one, 0)).to.be.at.most(1000)
  })

  it('leaves a session what it uses when nothing is free', () => {
    const room = createCacheQuota({ quotaBytes: 0, limitBytes: 1000 })
    room.update('a', { changedBytes: 900, otherBytes: 300 })
    expect(room.quotaOf('a')).to.equal(900)
  })

  it('is reduced by kept caches, and free again when they are removed', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'howdah-room-'))
    try {
      writeFileSync(path.join(directory, 'changes'), Buffer.alloc(1024 * 1024, 1))
      const room = createCacheQuota({ quotaBytes: 0, limitBytes: 4 * 1024 * 1024 })
      await room.addKept('kept', directory)
      room.add('a')
      expect(room.quotaOf('a')).to.be.within(2 * 1024 * 1024, 3 * 1024 * 1024)
      room.remove('kept')
      expect(room.quotaOf('a')).to.equal(4 * 1024 * 1024)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
