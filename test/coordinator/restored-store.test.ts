/** A coordinator whose store was restored from a backup, and an agent whose journal was not. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { openJournal } from '../../agents/runtime/journal.ts'
import { createStepRunner, type StepHandler, type StepRunner } from '../../agents/runtime/step-runner.ts'
import type { Session } from '../../coordinator/session.ts'
import type { Store } from '../../coordinator/store/store.ts'
import type { StepName } from '../../messages/values.ts'
import { stepResults } from './step-results.ts'
import { onBothStores } from './stores.ts'
import { openTestCoordinator, type TestCoordinator, until } from './test-coordinator.ts'

describe('a coordinator with a restored store', () =>
  onBothStores((openStore) => {
    let store: Store
    let coordinator: TestCoordinator
    let runner: StepRunner
    let close: (() => Promise<void>)[]
    let performed: string[]
    /** Commands that the agent was given. */
    let taken: number

    beforeEach(async () => {
      close = []
      performed = []
      taken = 0
      store = await openStore()
      close.push(() => store.close())
      coordinator = await openTestCoordinator(store, { now: Date.parse('2026-11-22T06:00:00Z') })
      close.push(() => coordinator.close())
      runner = startAgent()
    })

    afterEach(async () => {
      for (const one of close.reverse()) await one()
    })

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
      const started = createStepRunner({
        journal: openJournal(':memory:'),
        handlers: Object.fromEntries(steps.map((step) => [step, handler(step)])),
        emit: async (type, body) => {
          await coordinator.report(type, body)
        },
        logger: pino({ level: 'silent' }),
      })
      close.push(() => started.close())
      return started
    }

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
  }))
