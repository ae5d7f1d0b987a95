/** What the roles of a real fleet answer to Prometheus and to health checks, while a session is published and used. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { documentedMetrics } from '../monitoring/catalogue.ts'
import { type Scrape, sampleOf, scrape, scrapeFleet } from '../monitoring/scrape.ts'
import { ROLES, type Role } from '../support/fleet-roles.ts'
import { poll } from '../support/poll.ts'
import { useProductionFleet } from '../support/production-fleet.ts'

const run = promisify(execFile)

describe('the metrics of a fleet', function () {
  this.timeout(120_000)
  const context = useProductionFleet()

  /** Metrics of a role as soon as `isSo`. */
  const scrapeUntil = (role: Role, what: string, isSo: (found: Scrape) => boolean): Promise<Scrape> =>
    poll(
      async () => {
        const found = await scrape(context.fleet.metricsUrl(role))
        return isSo(found) ? found : undefined
      },
      { deadlineMs: 30_000, failure: () => `the metrics of the ${role} never show ${what}` },
    )

  it('show a publish, what was read and written since, and its end', async () => {
    const { fleet } = context
    const session = await fleet.publish('--repository', 'main', '--instance', context.production.stanza)
    const published = await scrape(fleet.metricsUrl('coordinator'))
    expect(sampleOf(published, 'howdah_publish_seconds_count')).to.equal(1)
    expect(sampleOf(published, 'howdah_publish_seconds_sum')).to.be.within(0.1, 60)
    expect(sampleOf(published, 'howdah_sessions', { state: 'published' })).to.equal(1)
    expect(sampleOf(published, 'howdah_coordinator_active')).to.equal(1)
    const mount = { step: 'mount', direction: 'run', outcome: 'done' }
    expect(sampleOf(published, 'howdah_step_seconds_count', mount)).to.equal(1)
    expect(sampleOf(published, 'howdah_agents', { kind: 'target', condition: 'online' })).to.equal(1)
    expect(sampleOf(published, 'howdah_queue_messages', { queue: 'howdah.dead-letters' })).to.be.a('number')
    const events = { queue: 'howdah.coordinator.events' }
    expect(sampleOf(published, 'howdah_message_age_seconds_count', events)).to.be.greaterThan(5)

    await fleet.sql(session, 'CREATE TABLE written AS SELECT generate_series(1, 100000) AS n; CHECKPOINT')
    const target = await scrapeUntil(
      'target-agent',
      'the writes',
      (found) => (sampleOf(found, 'howdah_fuse_bytes_total', { operation: 'write' }) ?? 0) > 3_000_000,
    )
    expect(sampleOf(target, 'howdah_target_sessions', { condition: 'whole' })).to.equal(1)
    expect(sampleOf(target, 'howdah_write_cache_bytes', { content: 'changes' })).to.be.greaterThan(3_000_000)
    expect(sampleOf(target, 'howdah_fuse_request_seconds_count', { operation: 'read' })).to.be.greaterThan(10)
    expect(sampleOf(target, 'howdah_fuse_request_seconds_count', { operation: 'fsync' })).to.be.greaterThan(0)
    expect(sampleOf(target, 'howdah_fetched_bytes_total', { request: 'read' })).to.be.greaterThan(8_191)
    expect(sampleOf(target, 'howdah_fetch_seconds_count', { request: 'tree' })).to.equal(1)
    expect(sampleOf(target, 'howdah_fetched_blocks_bytes')).to.be.greaterThan(8_191)
    expect(sampleOf(target, 'howdah_agent_step_seconds_count', mount)).to.equal(1)

    const server = await scrape(fleet.metricsUrl('mount-agent'))
    expect(sampleOf(server, 'howdah_served_bytes_total', { request: 'read' })).to.be.greaterThan(8_191)
    expect(sampleOf(server, 'howdah_data_plane_connections')).to.be.greaterThan(0)
    expect(sampleOf(server, 'howdah_spool_limit_bytes')).to.be.greaterThan(0)

    await fleet.howdahJson('unpublish', session.id, '--yes')
    const closed = await scrapeUntil(
      'coordinator',
      'the end',
      (found) => sampleOf(found, 'howdah_sessions', { state: 'published' }) === 0,
    )
    expect(sampleOf(closed, 'howdah_session_states_total', { state: 'closed' })).to.equal(1)
    const after = await scrape(fleet.metricsUrl('target-agent'))
    const written = (found: Scrape) => sampleOf(found, 'howdah_fuse_bytes_total', { operation: 'write' }) ?? 0
    expect(written(after), 'a counter never decreases').to.be.at.least(written(target))
    expect(sampleOf(after, 'howdah_target_sessions', { condition: 'whole' })).to.equal(0)
  })

  it('know until when the certificates in use are valid, and how much room there is', async () => {
    for (const role of ['mount-agent', 'target-agent'] as const) {
      const found = await scrape(context.fleet.metricsUrl(role))
      const expiry = sampleOf(found, 'howdah_certificate_expiry_timestamp_seconds', { certificate: 'agent' })
      expect(expiry).to.be.greaterThan(Date.now() / 1000)
      expect(sampleOf(found, 'howdah_disk_available_bytes', { directory: 'state' })).to.be.greaterThan(0)
    }
  })

  it('are those of the table in docs/monitoring.md, each of its roles, with its type and its labels', async () => {
    const documented = documentedMetrics()
    for (const [role, { types, series }] of await scrapeFleet(context.fleet)) {
      const expected = [...documented].filter(([, { roles }]) => roles.includes(role))
      const found = [...types].filter(([name]) => name.startsWith('howdah_'))
      expect(new Map(found), role).to.deep.equal(new Map(expected.map(([name, { type }]) => [name, type])))
      for (const { name, labels } of series.filter((one) => one.name.startsWith('howdah_'))) {
        const known = documented.get(name) ?? documented.get(name.replace(/_(bucket|sum|count)$/, ''))
        expect(known?.labels ?? [], name).to.include.members(
          Object.keys(labels).filter((one) => one !== 'le'),
        )
      }
    }
  })

  it('pass the checks that Prometheus has for names, types, units and help', async () => {
    for (const [role, { text }] of await scrapeFleet(context.fleet)) {
      const checking = run('promtool', ['check', 'metrics'])
      checking.child.stdin?.end(own(text))
      const { stderr } = await checking.catch((error: { stderr: string }) => error)
      expect(stderr.trim(), role).to.equal('')
    }
  })

  it('are in step with readiness: a role that loses its broker says so, and is ready again afterwards', async () => {
    const { fleet } = context
    const readiness = (role: Role) =>
      fetch(`${fleet.metricsUrl(role)}/readyz`).then(async (response) => ({
        status: response.status,
        text: await response.text(),
      }))
    for (const role of ROLES) expect(await readiness(role), role).to.deep.include({ status: 200 })
    await fleet.restartBroker({ crash: true })
    for (const role of ROLES) {
      await poll(async () => ((await readiness(role)).status === 200 ? true : undefined), {
        deadlineMs: 60_000,
        failure: () => `the ${role} is never ready again`,
      })
      const found = await scrape(fleet.metricsUrl(role))
      expect(
        sampleOf(found, 'howdah_broker_connection_losses_total', { connection: 'consume' }),
        role,
      ).to.be.greaterThan(0)
    }
  })
})

/** Howdah's own metrics: those of Node break some of the rules. */
function own(text: string): string {
  return text
    .split('\n\n')
    .filter((block) => block.startsWith('# HELP howdah_'))
    .join('\n')
    .concat('\n')
}
