import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { PublishedSession } from '../../agents/target/session/published-session.ts'
import {
  discardInterruptedRecovery,
  journalOf,
  removeMountPoint,
  requireChanges,
} from '../../agents/target/steps/session-cache.ts'
import { HowdahError } from '../../messages/errors.ts'

describe('The write cache of a session that is mounted', () => {
  let base: string
  let session: PublishedSession

  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'howdah-session-cache-'))
    session = {
      ...{ session: 'shop-1', mountPoint: `${base}/mount`, cachePath: `${base}/cache`, version: '15' },
      ...{ binaries: '/usr/bin', user: { name: 'postgres', uid: 1, gid: 1 }, port: 5433 },
      ...{ recoverTo: { type: 'latest' }, neededWal: {} },
      dataPlane: { host: 'mount', port: 1, ticket: 'ticket', mountAgent: 'mount' },
    }
    mkdirSync(`${session.cachePath}/conf`, { recursive: true })
  })
  afterEach(() => rmSync(base, { recursive: true, force: true }))

  const keep = (facts: Partial<PublishedSession> = {}): void =>
    writeFileSync(`${session.cachePath}/conf/session.json`, JSON.stringify({ ...session, ...facts }))
  const markRecovered = (): void => writeFileSync(`${session.cachePath}/conf/recovered`, '')
  const codeOf = async (work: () => unknown): Promise<string | undefined> => {
    try {
      await work()
      return undefined
    } catch (error) {
      return error instanceof HowdahError ? error.code : String(error)
    }
  }

  it('must be there when the session is resumed', async () => {
    expect(await codeOf(() => requireChanges(session))).to.equal('cache_unusable')
    keep()
    expect(await codeOf(() => requireChanges(session))).to.equal(undefined)
  })

  it('is kept where the first recovery has finished', async () => {
    keep({ recovered: true })
    markRecovered()
    await discardInterruptedRecovery(session)
    expect(existsSync(session.cachePath)).to.equal(true)
  })

  it('is removed where the first recovery was interrupted', async () => {
    keep()
    await discardInterruptedRecovery(session)
    expect(existsSync(session.cachePath)).to.equal(false)
  })

  it('is refused where files of a recovered session are missing', async () => {
    keep({ recovered: true })
    expect(await codeOf(() => discardInterruptedRecovery(session))).to.equal('cache_unusable')
    expect(existsSync(session.cachePath)).to.equal(true)
  })

  it('has a new journal until it has recovered, and the same one from then on', async () => {
    const { id, fresh } = await journalOf(session)
    expect(fresh).to.equal(true)
    keep({ journal: id, recovered: true })
    markRecovered()
    expect(await journalOf(session)).to.deep.equal({ id, fresh: false })
  })

  it('has a mount point that is removed with what was put below it', async () => {
    expect(await removeMountPoint(session.mountPoint)).to.equal(false)
    mkdirSync(`${session.mountPoint}/data`, { recursive: true })
    expect(await removeMountPoint(session.mountPoint)).to.equal(true)
    expect(existsSync(session.mountPoint)).to.equal(false)
  })
})
