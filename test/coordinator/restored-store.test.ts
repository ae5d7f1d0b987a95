/** A coordinator whose store was restored from a backup, and an agent whose journal was not. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { type Journal, openJournal } from '../../agents/runtime/journal.ts'
import { createStepRunner, type StepHandler, type StepRunner } from '../../agents/runtime/step-runner.ts'
import type { Session } from '../../coordinator/session.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import type { Store } from '../../coordinator/store/store.ts'
import type { AgentView, StepName } from '../../messages/values.ts'
import { stepResults } from './step-results.ts'
import { onBothStores } from './stores.ts'
import { openTestCoordinator, type TestCoordinator, until } from './test-coordinator.ts'

describe('a coordinator with a restored store', () =>
  onBothStores((openStore) => {
    let store: Store
    let coordinator: TestCoordinator
    let runner: StepRunner
    let journal: Journal
    let close: (() => Promise<void>)[]
    let performed: string[]
    /** Commands that the agent was given. */
    let taken: number

    beforeEach(async () => {
      close = []
      performed = []
      taken = 0
      await open(await openStore())
      runner = startAgent()
    })

    afterEach(async () => {
      await runner.close()
      for (const one of close.reverse()) await one()
    })

    async function open(opened: Store): Promise<void> {
      store = opened
      close.push(() => opened.close())
      const started = await openTestCoordinator(opened, { now: Date.parse('2026-11-22T06:00:00Z') })
      coordinator = started
      close.push(() => started.close())
    }

    /** Both agents of the session in one. */
    function startAgent(): StepRunner {
      const handler = (step: StepName): StepHandler<never> => ({
        async run() {
          performed.push(`run ${step}`)
          return stepResults[step] as never
        },
        async undo() {
          performed.push(`undo ${step}`)
          return { undone: [step] }
        },
      })
      const steps = Object.keys(stepResults) as StepName[]
      journal = openJournal(':memory:')
      const started = createStepRunner({
        journal,
        handlers: Object.fromEntries(steps.map((step) => [step, handler(step)])),
        emit: async (type, body) => {
          await coordinator.report(type, body)
        },
        logger: pino({ level: 'silent' }),
      })
      coordinator.bus.answers['session.record'] = ({ session }) => {
        const { sequence, inEffect } = journal.record(session, 'recover')
        return {
          accepted: true,
          ...(sequence !== undefined && { sequence }),
          ...(inEffect && { input: inEffect.command.input, recover: stepResults.recover }),
        }
      }
      return started
    }

    /** A coordinator that has lost its store, with the agent as it was. */
    async function loseStore(): Promise<void> {
      const answer = coordinator.bus.answers['session.record']
      await coordinator.close()
      await open(await openSqliteStore(':memory:'))
      if (answer) coordinator.bus.answers['session.record'] = answer
      taken = 0
      await coordinator.agentsOnline()
    }

    async function orphans(): Promise<string[] | undefined> {
      const { agents } = (await coordinator.command('agent.list', {})) as unknown as { agents: AgentView[] }
      return agents.find(({ kind }) => kind === 'target')?.orphans
    }

    const present = (...sessions: string[]) =>
      coordinator.report('agent.sessions', { kind: 'target', name: 'db-7', sessions })

    /** Hands the agent its commands until the session is in this state. */
    async function untilState(id: string, state: Session['state']): Promise<Session> {
      await until(`the session is ${state}`, async () => {
        for (const { type, body } of coordinator.bus.sent.slice(taken)) {
          taken += 1
          runner.accept(type === 'step.run' ? 'run' : 'undo', body)
        }
        await sleep(1)
        return (await coordinator.session(id)).state === state && taken === coordinator.bus.sent.length
      })
      return coordinator.session(id)
    }

    async function publish(): Promise<Session> {
      await coordinator.agentsOnline()
      const { session = '' } = await coordinator.command('instance.publish', {
        repository: 'main',
        instance: 'shop',
        target: 'db-7',
      })
      return untilState(session, 'published')
    }

    async function exportOnce(id: string): Promise<void> {
      const destination = { type: 'directory', path: '/exports' } as const
      await coordinator.command('session.export', { session: id, destination })
      await until('the export has begun', () => coordinator.bus.sent.length > taken)
      await untilState(id, 'published')
    }

    /** What a restore of the store does to one session; its history alone goes on. */
    async function restore(older: Session): Promise<void> {
      const { version, historyLength } = await coordinator.session(older.id)
      expect(await store.saveSession({ ...older, version, historyLength }, { history: [] })).to.equal('saved')
    }

    it('unpublishes a session whose agent is ahead, at the first try', async () => {
      const older = await publish()
      for (let time = 0; time < 3; time++) await exportOnce(older.id)
      await restore(older)
      await coordinator.command('session.unpublish', { session: older.id })
      await untilState(older.id, 'closed')
      expect(performed.slice(-3)).to.deep.equal(['undo recover', 'undo mount', 'undo preflight'])
    })

    it('runs a step that has the number of another one, and takes no outcome of that for its own', async () => {
      const older = await publish()
      await exportOnce(older.id)
      await restore(older)
      await coordinator.command('session.republish', { session: older.id, discardChanges: true })
      const republished = await untilState(older.id, 'published')
      expect(performed.slice(5)).to.deep.equal([
        ...['undo recover', 'undo mount', 'undo preflight'],
        ...['run resolve', 'run preflight', 'run mount', 'run recover'],
      ])
      expect(republished.sequence).to.be.greaterThan(8)
    })

    it('lists what is left on a target of sessions that it does not know, until it knows them', async () => {
      const { id } = await publish()
      await present(id)
      expect(await orphans()).to.equal(undefined)
      await loseStore()
      await present(id, 'older-1')
      expect(await orphans()).to.deep.equal([id, 'older-1'])
      await coordinator.agentsOnline()
      expect(await orphans()).to.deep.equal([id, 'older-1'])
      await present()
      expect(await orphans()).to.equal(undefined)
    })

    it('lists it also when the agent reported it before its first heartbeat', async () => {
      await present('older-1')
      await coordinator.agentsOnline()
      expect(await orphans()).to.deep.equal(['older-1'])
    })

    it('takes a session over as it is published, and unpublishes it later', async () => {
      const { id, results, request } = await publish()
      await loseStore()
      expect(await coordinator.command('session.adopt', { session: id, target: 'db-7' })).to.deep.include({
        accepted: true,
        session: id,
      })
      const adopted = await coordinator.session(id)
      expect(adopted).to.deep.include({ state: 'published', request, results, mountAgent: 'backup-1' })
      expect(coordinator.steps()).to.deep.equal([])
      await present(id)
      expect(await orphans()).to.equal(undefined)
      await coordinator.command('session.unpublish', { session: id })
      await untilState(id, 'closed')
      expect(performed.slice(4)).to.deep.equal(['undo recover', 'undo mount', 'undo preflight'])
    })

    it('removes what is left of a session, also when the target does not know how it was published', async () => {
      await coordinator.agentsOnline()
      const body = { session: 'older-1', target: 'db-7' }
      const { error } = await coordinator.command('session.adopt', body)
      expect(error).to.include({ code: 'session_state' })
      expect(error?.message).to.include('--remove')
      await coordinator.command('session.adopt', { ...body, remove: true })
      await untilState('older-1', 'closed')
      expect(performed).to.deep.equal(['undo recover', 'undo mount', 'undo preflight'])
    })

    it('takes over no session that it knows, unless that has ended', async () => {
      const { id } = await publish()
      const body = { session: id, target: 'db-7' }
      expect((await coordinator.command('session.adopt', body)).error).to.include({ code: 'session_state' })
      await coordinator.command('session.unpublish', { session: id })
      await untilState(id, 'closed')
      await coordinator.command('session.adopt', { ...body, remove: true })
      await untilState(id, 'closed')
      expect(performed.slice(7)).to.deep.equal(['undo recover', 'undo mount', 'undo preflight'])
    })
  }))
