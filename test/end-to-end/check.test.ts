import { existsSync } from 'node:fs'
import { expect } from 'chai'
import type { CheckReport } from '../../messages/definitions.ts'
import { useProductionFleet } from '../support/production-fleet.ts'

describe('a check before publishing', function () {
  this.timeout(60_000)
  const made = useProductionFleet()

  async function check(changes: object = {}): Promise<CheckReport> {
    const body = { repository: 'main', instance: made.production.stanza, target: 'db-7', ...changes }
    const reply = await made.fleet.bus.request('instance.check', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    return reply.report
  }

  const errors = ({ findings }: CheckReport): string[] =>
    findings.filter(({ level }) => level === 'error').map(({ code }) => code)

  it('without findings names the backup that would be published, and the data and space that it needs', async () => {
    const report = await check()
    expect(errors(report)).to.deep.equal([])
    expect(report.backup).to.match(/^\d{8}-\d{6}F$/)
    expect(report.estimate.fetchBytes).to.be.greaterThan(0)
    expect(report.estimate.walBytes).to.be.greaterThan(0)
    expect(report.estimate.freeBytes).to.be.greaterThan(report.estimate.cacheBytes ?? Infinity)
  })

  it('reports the findings of both agents at once', async () => {
    const report = await check({ backup: '20200101-000000F', user: 'nobody-at-all', port: 1 })
    expect(errors(report)).to.include.members(['unknown_backup', 'user_missing'])
  })

  it('reports an agent that is offline as a finding beside those of the other', async () => {
    const report = await check({ target: 'db-8', backup: '20200101-000000F' })
    expect(errors(report)).to.have.members(['unknown_target', 'unknown_backup'])
  })

  it('reports a recovery target that cannot be reached, with the range that can', async () => {
    const report = await check({ recoverTo: { type: 'time', value: '2001-01-01 00:00:00+00' } })
    expect(errors(report)).to.deep.equal(['target_unreachable'])
    expect(report.findings[0]?.message).to.match(/UTC/)
  })

  it('mounts nothing, stores nothing and creates no session', async () => {
    await check()
    const sessions = await made.fleet.bus.request('session.list', { all: true })
    expect(sessions).to.deep.include({ accepted: true, sessions: [] })
    expect(existsSync(made.fleet.mountRoot)).to.equal(false)
    expect(existsSync(made.fleet.cacheRoot)).to.equal(false)
  })
})
