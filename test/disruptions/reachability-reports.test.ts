import { expect } from 'chai'
import { failedReads } from '../../agents/target/mount-process/program/failed-reads.ts'
import { reachabilityChange, UNREACHABLE_AFTER_MS } from '../../agents/target/session/reachability.ts'
import { HowdahError } from '../../messages/errors.ts'

const LOST = Date.parse('2026-01-01T12:00:00Z')
const lostAt = new Date(LOST).toISOString()
const here = { connected: true, failedReads: 0 }
const away = { connected: false, lostAt, failedReads: 0, lastError: 'no route' }

describe('the reported reachability of a mount server', () => {
  it('is sent for a session that is new to the agent', () => {
    expect(reachabilityChange(here, undefined, LOST)).to.include({ reachable: true, failedReads: 0 })
  })

  it('leaves out an absence that may end at once', () => {
    expect(reachabilityChange(away, undefined, LOST + UNREACHABLE_AFTER_MS - 1)).to.equal(undefined)
  })

  it('includes a longer absence once', () => {
    const now = LOST + UNREACHABLE_AFTER_MS
    const reported = reachabilityChange(away, undefined, now)
    expect(reported).to.deep.equal({ reachable: false, since: lostAt, failedReads: 0, reason: 'no route' })
    expect(reachabilityChange(away, reported, now + 1000)).to.equal(undefined)
  })

  it('is sent at once when a read failed, and again for each later failure', () => {
    const reported = reachabilityChange({ ...away, failedReads: 1 }, undefined, LOST)
    expect(reported).to.include({ reachable: false, failedReads: 1 })
    expect(reachabilityChange({ ...away, failedReads: 2 }, reported, LOST)).to.include({ failedReads: 2 })
  })

  it('is sent when the server is back', () => {
    const reported = reachabilityChange(away, undefined, LOST + UNREACHABLE_AFTER_MS)
    expect(reachabilityChange(here, reported, LOST + 60_000)).to.include({ reachable: true })
  })
})

describe('reads that failed because the mount server was unreachable', () => {
  const unavailable = new HowdahError('repository_unavailable', 'it is away')

  it('are counted even before its absence is noticed', () => {
    const failed = failedReads({ connectedAt: 10 }, () => 20)
    failed.add(unavailable)
    expect(failed).to.include({ count: 1, total: 1 })
  })

  it('are no longer counted when it is back', () => {
    const source = { connectedAt: 10 }
    const failed = failedReads(source, () => 20)
    failed.add(unavailable)
    source.connectedAt = 30
    expect(failed).to.include({ count: 0, total: 1 })
  })

  it('do not include those that it answered', () => {
    const failed = failedReads({ connectedAt: 10 }, () => 20)
    failed.add(new HowdahError('backup_damaged', 'a file is too short'))
    expect(failed.total).to.equal(0)
  })
})
