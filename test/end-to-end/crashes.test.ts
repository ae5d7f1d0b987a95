import { execFileSync } from 'node:child_process'
import { expect } from 'chai'
import type { EventDelivery } from '../../messages/bus.ts'
import type { SessionView, StepName } from '../../messages/values.ts'
import { restartBroker } from '../support/broker.ts'
import type { Role } from '../support/fleet-roles.ts'
import { useProductionFleet } from '../support/production-fleet.ts'

describe('crashes', function () {
  this.timeout(120_000)
  const made = useProductionFleet(async (production) => {
    await production.writeNotes(100, 'after the backup')
    await production.switchWal()
  })

  /** Begins to publish; resolves with the session's id when the step has been started by its agent. */
  async function publishUntil(step: StepName): Promise<string> {
    const seen: EventDelivery[] = []
    let wake = (): void => undefined
    const watch = await made.fleet.bus.watchEvents('session.#', (delivery) => {
      seen.push(delivery)
      wake()
    })
    const session = await made.publish()
    const started = ({ type, body: event }: EventDelivery): boolean =>
      type === 'session.step-started' && event.session === session && event.step === step
    while (!seen.some(started)) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    await watch.close()
    return session
  }

  async function expectComplete(id: string): Promise<SessionView> {
    const session = await made.fleet.untilState(id, 'published', 100)
    expect(await made.fleet.sql(session, 'SELECT count(*) FROM notes', made.production.database)).to.equal(
      '1100',
    )
    return session
  }

  function signalMountProcess(id: string, signal: NodeJS.Signals): void {
    const [pid] = execFileSync('pgrep', ['-f', `^howdah mount ${id}$`], { encoding: 'utf8' }).split('\n')
    process.kill(Number(pid), signal)
  }

  async function unpublish(id: string): Promise<void> {
    await made.fleet.howdahJson('unpublish', id, '--yes')
  }

  const middles: readonly (readonly [Role, StepName])[] = [
    ['coordinator', 'resolve'],
    ['coordinator', 'mount'],
    ['coordinator', 'recover'],
    ['mount-agent', 'resolve'],
    ['mount-agent', 'mount'],
    ['mount-agent', 'recover'],
    ['target-agent', 'preflight'],
    ['target-agent', 'mount'],
    ['target-agent', 'recover'],
  ]
  for (const [role, step] of middles) {
    it(`a publish completes after kill -9 of the ${role} in the step ${step}`, async () => {
      const id = await publishUntil(step)
      await made.fleet.stop(role, 'SIGKILL')
      await made.fleet.start(role)
      await expectComplete(id)
      await unpublish(id)
    })
  }

  it('a publish completes after a restart of the broker in the middle of recovery', async () => {
    const id = await publishUntil('recover')
    await restartBroker()
    await expectComplete(id)
    await unpublish(id)
  })

  it('a restarted target agent adopts a published instance, and PostgreSQL never stops', async () => {
    const id = await publishUntil('recover')
    const session = await expectComplete(id)
    const started = await made.fleet.sql(session, 'SELECT pg_postmaster_start_time()')
    await made.fleet.stop('target-agent', 'SIGKILL')
    await made.fleet.sql(session, 'CREATE TABLE meanwhile (n int)', made.production.database)
    await made.fleet.start('target-agent')
    await made.fleet.sql(session, 'INSERT INTO meanwhile VALUES (1)', made.production.database)
    expect(await made.fleet.sql(session, 'SELECT pg_postmaster_start_time()')).to.equal(started)
    expect(await made.fleet.show(id)).to.include({ state: 'published' })
    await unpublish(id)
  })

  it('a published instance resumes without a command after kill -9 of PostgreSQL, with every committed row', async () => {
    const id = await publishUntil('recover')
    const session = await expectComplete(id)
    await made.fleet.sql(session, 'CREATE TABLE kept AS SELECT 42 AS n', made.production.database)
    const pid = await made.fleet.sql(session, "SELECT pg_read_file('postmaster.pid', 0, 10)")
    process.kill(Number.parseInt(pid, 10), 'SIGKILL')
    await made.fleet.untilState(id, 'disrupted')
    const again = await made.fleet.untilState(id, 'published')
    expect(await made.fleet.sql(again, 'SELECT n FROM kept', made.production.database)).to.equal('42')
    await unpublish(id)
  })

  it('a publish completes after kill -9 of the mount process in the middle of recovery', async () => {
    const id = await publishUntil('recover')
    signalMountProcess(id, 'SIGKILL')
    await expectComplete(id)
    await unpublish(id)
  })

  it('a publish completes after its mount process was stopped for a while in the middle of recovery', async () => {
    const id = await publishUntil('recover')
    signalMountProcess(id, 'SIGSTOP')
    await expectComplete(id)
    await unpublish(id)
  })

  for (const [what, signal, reason] of [
    ['kill -9 of its mount process', 'SIGKILL', 'ended'],
    ['its mount process hung for a while', 'SIGSTOP', 'has not answered'],
  ] as const) {
    it(`a published instance resumes without a command after ${what}, with every committed row`, async () => {
      const id = await publishUntil('recover')
      const session = await expectComplete(id)
      const rows = 'CREATE TABLE kept AS SELECT n FROM generate_series(1, 5000) n'
      await made.fleet.sql(session, rows, made.production.database)
      signalMountProcess(id, signal)
      expect((await made.fleet.untilState(id, 'disrupted')).error?.message).to.include(reason)
      const again = await made.fleet.untilState(id, 'published')
      expect(await made.fleet.sql(again, 'SELECT sum(n) FROM kept', made.production.database)).to.equal(
        '12502500',
      )
      await unpublish(id)
    })
  }

  it('an unpublish completes after kill -9 of the target agent in the middle of it', async () => {
    const id = await publishUntil('recover')
    await expectComplete(id)
    const reply = await made.fleet.bus.request('session.unpublish', { session: id })
    expect(reply.accepted).to.equal(true)
    await made.fleet.stop('target-agent', 'SIGKILL')
    await made.fleet.start('target-agent')
    await made.fleet.untilState(id, 'closed')
  })

  it('a step for an agent that is offline waits for it, and the session says so', async () => {
    await made.fleet.stop('mount-agent', 'SIGKILL')
    const body = { repository: 'main', instance: made.production.stanza, target: 'db-7' }
    const reply = await made.fleet.bus.request('instance.publish', body)
    if (!reply.accepted) {
      expect(reply.error.code).to.equal('agent_offline')
      await made.fleet.start('mount-agent')
      return
    }
    const waiting = await made.fleet.untilState(reply.session, 'disrupted')
    expect(waiting.error).to.include({ code: 'agent_offline' })
    await made.fleet.start('mount-agent')
    await expectComplete(reply.session)
    await unpublish(reply.session)
  })
})
