import { expect } from 'chai'
import { failedReads } from '../../agents/target/mount-process/program/failed-reads.ts'
import { reachabilityChange, UNREACHABLE_AFTER_MS } from '../../agents/target/session/reachability.ts'
import { HowdahError } from '../../messages/errors.ts'

const LOST = Date.parse('2026-01-01T12:00:00Z')
const lostAt = new Date(LOST).toISOString()
const here = { connected: true, failedReads: 0 }
const away = { connected: false, lostAt, failedReads: 0, lastError: 'no route' }

describe('news of how a mount server is reached', () => {
  it('is told of a session that is new to the agent', () => {
    expect(reachabilityChange(here, undefined, LOST)).to.include({ reachable: true, failedReads: 0 })
  })

  it('is none of an absence that may be over at once', () => {
    expect(reachabilityChange(away, undefined, LOST + UNREACHABLE_AFTER_MS - 1)).to.equal(undefined)
  })

  it('is told once of a longer one', () => {
    const now = LOST + UNREACHABLE_AFTER_MS
    const told = reachabilityChange(away, undefined, now)
    expect(told).to.deep.equal({ reachable: false, since: lostAt, failedReads: 0, reason: 'no route' })
    expect(reachabilityChange(away, told, now + 1000)).to.equal(undefined)
  })

  it('is told at once when a read failed, and again for each that follows', () => {
    const told = reachabilityChange({ ...away, failedReads: 1 }, undefined, LOST)
    expect(told).to.include({ reachable: false, failedReads: 1 })
    expect(reachabilityChange({ ...away, failedReads: 2 }, told, LOST)).to.include({ failedReads: 2 })
  })

  it('is told when the server is back', () => {
    const told = reachabilityChange(away, undefined, LOST + UNREACHABLE_AFTER_MS)
    expect(reachabilityChange(here, told, LOST + 60_000)).to.include({ reachable: true })
  })
})

describe('reads that failed for want of the mount server', () => {
  const unavailable = new HowdahError('repository_unavailable', 'it is away')

  it('are counted also before its absence is noticed', () => {
    const failed = failedReads({ connectedAt: 10 }, () => 20)
    failed.add(unavailable)
    expect(failed).to.include({ count: 1, total: 1 })
  })

  it('are forgotten when it is there again', () => {
    const source = { connectedAt: 10 }
    const failed = failedReads(source, () => 20)
    failed.add(unavailable)
    source.connectedAt = 30
    expect(failed).to.include({ count: 0, total: 1 })
  })

  it('are not those that it answered', () => {
    const failed = failedReads({ connectedAt: 10 }, () => 20)
    failed.add(new HowdahError('backup_damaged', 'a file is too short'))
    expect(failed.total).to.equal(0)
  })
})
