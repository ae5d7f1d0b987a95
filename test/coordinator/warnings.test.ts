import { expect } from 'chai'
import { newSession, type Session } from '../../coordinator/session.ts'
import { sessionView } from '../../coordinator/session-view.ts'
import { usageReported } from '../../coordinator/transitions.ts'
import { SessionView, type Usage } from '../../messages/values.ts'

const MB = 1_000_000

describe('warnings of space that runs out', () => {
  let session: Session
  let clock: number

  beforeEach(() => {
    const request = {
      repository: 'main',
      instance: 'shop',
      backup: 'latest',
      recoverTo: { type: 'latest' as const },
      target: 'db-7',
      options: {},
    }
    clock = Date.parse('2026-11-22T06:00:00Z')
    session = newSession('shop-abc234', request, 'backup-1', new Date(clock).toISOString())
  })

  function report(usage: Partial<Usage>): string[] {
    clock += 2000
    const full = { fetchedBytes: 0, totalBytes: 0, cacheBytes: 0, ...usage }
    return usageReported(session, full, new Date(clock).toISOString()).map(
      ({ about, level }) => `${about} ${level}`,
    )
  }
  const used = (changed: number, quota: number | null = 1000): string[] =>
    report({
      changedBytes: changed * MB,
      quotaBytes: quota === null ? null : quota * MB,
      freeBytes: 5000 * MB,
      reserveBytes: 100 * MB,
    })
  const free = (bytes: number): string[] =>
    report({
      changedBytes: 0,
      quotaBytes: null,
      freeBytes: bytes * MB,
      reserveBytes: 100 * MB,
    })

  it('come once at 80 % and once at 95 % of the quota', () => {
    expect([799, 800, 810, 949, 950, 1000, 999].map((changed) => used(changed))).to.deep.equal([
      [],
      ['quota low'],
      [],
      [],
      ['quota critical'],
      [],
      [],
    ])
  })

  it('state how much is used, and what to do', () => {
    used(812)
    expect(sessionView(session).warnings).to.have.length(1)
    expect(sessionView(session).warnings[0]).to.match(
      /812 MB of the quota of 1\.00 GB \(81 %\).*truncate.*quotaBytes/,
    )
  })

  it('are not repeated while the usage stays near a threshold', () => {
    expect([805, 795, 805, 760, 805].flatMap((changed) => used(changed))).to.deep.equal(['quota low'])
  })

  it('are cleared when space is freed, and come again when it is used', () => {
    expect([960, 700, 960].flatMap((changed) => used(changed))).to.deep.equal([
      'quota critical',
      'quota cleared',
      'quota critical',
    ])
    used(100)
    expect(sessionView(session).warnings).to.deep.equal([])
  })

  it('step down from critical to low', () => {
    expect([960, 910, 890, 740].flatMap((changed) => used(changed))).to.deep.equal([
      'quota critical',
      'quota low',
      'quota cleared',
    ])
  })

  it('come when free space is within twice the reserve, and when only the reserve is left', () => {
    expect([300, 101, 100, 50, 110, 0, 10, 30, 130].map((bytes) => free(bytes))).to.deep.equal([
      [],
      [],
      ['free-space low'],
      [],
      [],
      ['free-space critical'],
      [],
      ['free-space low'],
      ['free-space cleared'],
    ])
  })

  it('of quota and free space are listed together with those of the steps', () => {
    session.warnings.push('the collation version differs')
    report({ changedBytes: 99, quotaBytes: 100, freeBytes: 0, reserveBytes: 10 })
    expect(sessionView(session).warnings).to.have.length(3)
  })

  it('never come without a quota, or for usage that the agent does not report', () => {
    expect(used(1_000_000, null)).to.deep.equal([])
    expect(report({})).to.deep.equal([])
  })

  it('end when the quota is removed', () => {
    used(960)
    expect(used(960, null)).to.deep.equal(['quota cleared'])
  })

  it('are kept in the history, oldest first, in a document of the contract', () => {
    for (const changed of [810, 960, 100]) used(changed)
    const view = SessionView.parse(JSON.parse(JSON.stringify(sessionView(session))))
    expect(view.warningHistory?.map(({ level }) => level)).to.deep.equal(['low', 'critical', 'cleared'])
  })
})
