import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { BLOCK } from '../../agents/target/filesystem/contents/block-map.ts'
import { Space } from '../../agents/target/filesystem/space/space.ts'
import { WalUsage } from '../../agents/target/filesystem/space/wal-usage.ts'
import {
  type CacheShares,
  type CacheSharesOptions,
  createCacheShares,
} from '../../agents/target/room/cache-shares.ts'
import type { ShareHolder } from '../../agents/target/room/write-cache.ts'

const MIB = 1024 * 1024
const logger = pino({ level: 'silent' })

/** A session with the space of a mount process, which does what it is told after `delay` turns of the event loop. */
function makeSession(options: { readonly reachable?: () => boolean; readonly marginBytes?: number } = {}) {
  let walBytes = 0
  const wal = new WalUsage({ measure: () => walBytes, now: () => clock })
  const space = new Space('/tmp', { shareBytes: 0, reserveBytes: 0, marginBytes: options.marginBytes }, wal)
  const answer = async () => {
    if (options.reachable?.() === false) throw new Error('does not answer')
    return space.usage()
  }
  const holder = {
    usage: answer,
    limit: async (quotas: Parameters<ShareHolder['limit']>[0]) => {
      if (options.reachable?.() !== false) space.limit(quotas)
      return answer()
    },
  }
  return {
    space,
    holder,
    /** Changes blocks until `bytes` are changed or it is refused; gives the bytes. */
    change(bytes: number): number {
      let done = 0
      try {
        for (; done < bytes; done += BLOCK) space.allocate(1, 'growth')
      } catch {
        // No room.
      }
      return done
    },
    writeWal(bytes: number): void {
      // Late enough for it to be measured again.
      clock += 1000
      walBytes += bytes
    },
    get taken(): number {
      return space.changedBytes + walBytes
    },
  }
}

let clock = 0

describe('The shares of write caches', () => {
  const opened: CacheShares[] = []
  const make = (options: Omit<CacheSharesOptions, 'logger'>): CacheShares => {
    const shares = createCacheShares({ ...options, logger })
    opened.push(shares)
    return shares
  }
  afterEach(() => {
    for (const shares of opened.splice(0)) shares.close()
  })

  /** Publishes: reserves and mounts. */
  async function publish(shares: CacheShares, name: string, session = makeSession()) {
    session.space.limit(await shares.reserve(name))
    shares.attach(name, session.holder)
    return session
  }

  it('are unlimited by default', async () => {
    const shares = make({ quotaBytes: 0, limitBytes: null })
    const session = await publish(shares, 'a')
    await shares.redistribute()
    expect(session.space.usage()).to.include({ quotaBytes: null, committedBytes: null })
    expect(shares.shareOf('a')).to.equal(undefined)
  })

  it('are the quota of each session, if only that is configured, WAL not counted', async () => {
    const shares = make({ quotaBytes: 100 * MIB, limitBytes: null })
    const session = await publish(shares, 'a')
    session.writeWal(50 * MIB)
    await shares.redistribute()
    expect(session.space.usage()).to.include({ quotaBytes: 100 * MIB, committedBytes: null })
  })

  it('are what each session uses, and an equal part of what is free', async () => {
    const shares = make({ quotaBytes: 0, limitBytes: 1000 * MIB })
    const [a, b] = [await publish(shares, 'a'), await publish(shares, 'b')]
    a.change(300 * MIB)
    a.writeWal(20 * MIB)
    b.writeWal(20 * MIB)
    await shares.redistribute()
    expect([shares.shareOf('a'), shares.shareOf('b')]).to.deep.equal([650 * MIB, 350 * MIB])
    await publish(shares, 'c')
    const inMiB = ['a', 'b', 'c'].map((name) => Math.round((shares.shareOf(name) ?? 0) / MIB))
    expect(inMiB).to.deep.equal([540, 240, 220])
  })

  it('never let sessions that grow between two messages come to use more than the limit together', async () => {
    const limitBytes = 4096 * MIB
    const shares = make({ quotaBytes: 0, limitBytes })
    const sessions = [await publish(shares, 'a'), await publish(shares, 'b'), await publish(shares, 'c')]
    const sum = (of: (session: (typeof sessions)[number]) => number) =>
      sessions.reduce((total, session) => total + of(session), 0)
    let messages = 0
    let most = 0
    let shrinks = true
    const grow = () => {
      // One after the other grows by much and shrinks again, so that the shares are never as they should be.
      const session = sessions[Math.floor(messages / 7) % sessions.length]
      session?.change((messages++ % 7) * 64 * MIB)
      if (shrinks && messages % 28 === 0)
        for (const { space } of sessions) space.release(Math.floor(space.changedBytes / BLOCK / 2))
      most = Math.max(
        most,
        sum(({ space }) => space.usage().committedBytes ?? 0),
      )
    }
    for (const { holder } of sessions) {
      const { limit, usage } = holder
      holder.limit = (quotas) => limit(quotas).finally(grow)
      holder.usage = () => usage().finally(grow)
    }
    for (let round = 0; round < 100; round++) await shares.redistribute()
    expect(messages).to.be.greaterThan(300)
    expect(most).to.be.within(limitBytes * 0.99, limitBytes)
    shrinks = false
    for (let round = 0; round < 20; round++) {
      for (const session of sessions) session.change(limitBytes)
      await shares.redistribute()
    }
    expect(sum(({ taken }) => taken)).to.be.within(limitBytes * 0.8, limitBytes)
  })

  it('count WAL, which takes from the changes of its session while it grows', async () => {
    const limitBytes = 512 * MIB
    const shares = make({ quotaBytes: 0, limitBytes })
    const sessions = [await publish(shares, 'a'), await publish(shares, 'b')]
    // As INSERT does: as much WAL as changes, and no round meanwhile.
    for (let turn = 0; turn < 100; turn++) {
      for (const session of sessions) session.writeWal(session.change(8 * MIB))
      if (turn % 20 === 19) await shares.redistribute()
    }
    const taken = sessions.reduce((sum, session) => sum + session.taken, 0)
    expect(taken).to.be.within(limitBytes * 0.8, limitBytes + 2 * 8 * MIB)
  })

  it('reserve room for a session before it is mounted, taken from those that have more than they use', async () => {
    const shares = make({ quotaBytes: 0, limitBytes: 1000 * MIB })
    const a = await publish(shares, 'a')
    await shares.redistribute()
    expect(a.space.usage().committedBytes).to.equal(1000 * MIB)
    const { shareBytes = 0 } = await shares.reserve('b')
    expect(shareBytes).to.equal(500 * MIB)
    expect(a.space.usage().committedBytes).to.equal(500 * MIB)
  })

  it('leave each session enough to overwrite what it has, also when a new one comes', async () => {
    const shares = make({ quotaBytes: 0, limitBytes: 512 * MIB, reserveMs: 0 })
    const sessions = [await publish(shares, 'a'), await publish(shares, 'b')]
    await shares.redistribute()
    for (const session of sessions) session.change(512 * MIB)
    await publish(shares, 'c')
    await shares.redistribute()
    for (const { space } of sessions) {
      const { changedBytes, quotaBytes } = space.usage()
      // What was withheld from growth is still there.
      expect((quotaBytes ?? 0) - changedBytes).to.be.at.least(6 * MIB)
    }
  })

  it('give nobody what a mount process holds that does not answer', async () => {
    const shares = make({ quotaBytes: 0, limitBytes: 1000 * MIB })
    let reachable = true
    const a = await publish(shares, 'a', makeSession({ reachable: () => reachable }))
    const b = await publish(shares, 'b')
    await shares.redistribute()
    reachable = false
    b.change(400 * MIB)
    await shares.redistribute()
    expect(b.space.usage().committedBytes).to.be.at.most(500 * MIB)
    a.change(1000 * MIB)
    b.change(1000 * MIB)
    expect(a.taken + b.taken).to.be.at.most(1000 * MIB)
    reachable = true
    a.space.release(a.space.changedBytes / BLOCK)
    await shares.redistribute()
    expect(b.space.usage().committedBytes).to.be.greaterThan(650 * MIB)
  })

  it('count what the kernel has accepted until it has written that back', async () => {
    const shares = make({ quotaBytes: 0, limitBytes: 1000 * MIB })
    const a = await publish(shares, 'a', makeSession({ marginBytes: 100 * MIB }))
    const b = await publish(shares, 'b')
    await shares.redistribute()
    a.change(380 * MIB)
    b.change(400 * MIB)
    await shares.redistribute()
    // Its part of what is free is 110 MiB, of which WAL has some set aside, so it is near full.
    expect(a.space.nearFull).to.equal(true)
    a.space.allocate((100 * MIB) / BLOCK, 'accepted')
    expect(a.taken + (b.space.usage().committedBytes ?? 0)).to.be.at.most(1000 * MIB)
  })

  it('do not disturb the mount processes that an agent finds when it starts', async () => {
    const limitBytes = 1000 * MIB
    const found = makeSession()
    found.space.limit({ shareBytes: 900 * MIB })
    found.change(700 * MIB)
    const shares = make({ quotaBytes: 0, limitBytes })
    shares.attach('found', found.holder)
    const next = await publish(shares, 'next')
    expect(found.change(8 * MIB)).to.equal(8 * MIB)
    next.change(limitBytes)
    found.change(limitBytes)
    expect(found.taken + next.taken).to.be.at.most(limitBytes)
    expect(next.taken).to.be.greaterThan(64 * MIB)
  })

  it('tell a mount process that was found that there is no limit any more', async () => {
    const found = makeSession()
    found.space.limit({ quotaBytes: MIB, shareBytes: MIB })
    const shares = make({ quotaBytes: 0, limitBytes: null })
    shares.attach('found', found.holder)
    await shares.redistribute()
    expect(found.space.usage()).to.include({ quotaBytes: null, committedBytes: null })
  })

  it('are reduced by caches that nobody uses, and free again when they are removed', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'howdah-room-'))
    try {
      writeFileSync(path.join(directory, 'changes'), Buffer.alloc(MIB, 1))
      const shares = make({ quotaBytes: 0, limitBytes: 4 * MIB })
      await shares.addIdle('kept', directory)
      await publish(shares, 'a')
      expect(shares.shareOf('a')).to.be.within(2 * MIB, 3 * MIB)
      shares.remove('kept')
      await shares.redistribute()
      expect(shares.shareOf('a')).to.equal(4 * MIB)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
