/** Owns the tests in which a disruption hits sessions in all their phases at once, and each of them resumes by itself. */
import { readFile } from 'node:fs/promises'
import { expect } from 'chai'
import type { SessionView } from '../../messages/values.ts'
import { MACHINE } from '../support/host-layout.ts'
import { expectGone, type World } from './world.ts'

interface Disruption {
  readonly name: string
  begin(world: World): Promise<void>
  /** Resolves when it was noticed. `early`: a session that was begun right after it. */
  noticed?(world: World, early: string): Promise<void>
  end(world: World): Promise<void>
  /** Whether the published instance keeps running meanwhile. */
  readonly instanceStays: boolean
  /** Whether commands are accepted meanwhile. */
  readonly commandsAccepted: boolean
  /** The error in the history of a session that was begun while it lasted. */
  readonly expectedError?: string
}

/** The session's agent counts as offline, and the session says so. */
async function agentOffline(world: World, early: string): Promise<void> {
  await world.until(early, 'waiting for its agent', ({ error }) => error?.code === 'agent_offline')
}

const DISRUPTIONS: readonly Disruption[] = [
  {
    name: 'a cut between target and broker',
    begin: ({ hosts }) => hosts.cut('target-agent', MACHINE),
    noticed: agentOffline,
    end: ({ hosts }) => hosts.restoreAll(),
    instanceStays: true,
    commandsAccepted: true,
    expectedError: 'agent_offline',
  },
  {
    name: 'a cut between mount server and broker',
    begin: ({ hosts }) => hosts.cut('mount-agent', MACHINE),
    noticed: agentOffline,
    end: ({ hosts }) => hosts.restoreAll(),
    instanceStays: true,
    commandsAccepted: true,
    expectedError: 'agent_offline',
  },
  {
    name: 'a cut between target and mount server',
    begin: ({ hosts }) => hosts.cut('target-agent', 'mount-agent', 'refused'),
    noticed: async ({ until }, early) => {
      await until(early, 'refused', ({ error }) => error?.code === 'repository_unavailable')
    },
    end: ({ hosts }) => hosts.restoreAll(),
    instanceStays: true,
    commandsAccepted: true,
    expectedError: 'repository_unavailable',
  },
  {
    name: 'a half-open connection between coordinator and broker',
    begin: ({ hosts }) => hosts.cut('coordinator', MACHINE, 'deaf'),
    noticed: (world) => untilLogged(world, 'coordinator', 'lost the connection to RabbitMQ'),
    end: ({ hosts }) => hosts.restoreAll(),
    instanceStays: true,
    commandsAccepted: false,
  },
  {
    name: 'a crash of the broker',
    begin: ({ fleet }) => fleet.restartBroker({ crash: true }),
    end: async () => undefined,
    instanceStays: true,
    commandsAccepted: true,
  },
  {
    name: 'a reboot of the target',
    begin: (world) => world.rebootTarget(),
    end: ({ fleet }) => fleet.start('target-agent'),
    instanceStays: false,
    commandsAccepted: true,
  },
]

export function phaseTests(of: () => World): void {
  for (const disruption of DISRUPTIONS) {
    describe(`after ${disruption.name}`, () => {
      let published: SessionView
      let recovering: string
      let early: string
      let exporting: string
      let ending: string
      const begun: string[] = []
      const kept = disruption.instanceStays ? [1, 2] : [1]

      before(async () => {
        const world = of()
        const ready = await Promise.all([world.publish(), world.publish(), world.publish()])
        published = ready[0]
        exporting = ready[1].id
        ending = ready[2].id
        begun.push(...ready.map(({ id }) => id))
        await world.keep(published, 1)
        recovering = await world.begin()
        begun.push(recovering)
        await Promise.all([world.untilStep(recovering, 'recover'), world.beginExport(exporting)])
        const unpublish = await world.fleet.bus.request('session.unpublish', { session: ending })
        expect(unpublish.accepted).to.equal(true)
        if (!disruption.commandsAccepted) early = await world.begin()
        await disruption.begin(world)
        if (disruption.commandsAccepted) early = await world.begin()
        begun.push(early)
        if (disruption.instanceStays) await world.keep(published, 2)
        await disruption.noticed?.(world, early)
        await disruption.end(world)
      })

      after(async () => {
        await of().hosts.restoreAll()
        for (const id of [published.id, exporting, recovering, early]) await of().unpublish(id)
      })

      it('a publish that had just been requested completes', async () => {
        const view = await of().untilPublished(early)
        await of().expectWhole(view, [])
        if (disruption.expectedError !== undefined)
          expect(await of().errors(early)).to.include(disruption.expectedError)
      })

      it('a publish in the middle of recovery completes', async () => {
        const view = await of().untilPublished(recovering)
        await of().expectWhole(view, [])
      })

      it('a published instance has every committed row', async () => {
        const view = await of().untilPublished(published.id)
        await of().expectWhole(view, kept)
      })

      it('a running export completes', async () => {
        const view = await of().until(exporting, 'exported', ({ state, exports = [] }) => {
          const ended = exports.every(({ status }) => status !== 'pending' && status !== 'running')
          return state === 'published' && ended
        })
        const [job] = view.exports ?? []
        expect(job, JSON.stringify(job)).to.include({ status: 'done' })
        expect(job?.databases.map(({ status }) => status)).to.deep.equal(['done'])
      })

      it('a running unpublish completes, and leaves nothing', async () => {
        await of().until(ending, 'closed', ({ state }) => state === 'closed')
        await expectGone(of(), ending)
      })
    })
  }
}

/** Resolves when the log of a role has a text once more than now. */
async function untilLogged({ fleet }: World, role: string, text: string): Promise<void> {
  const count = async (): Promise<number> =>
    (await readFile(`${fleet.directory}/${role}.log`, 'utf8')).split(text).length
  const before = await count()
  const deadline = Date.now() + 30_000
  while ((await count()) === before) {
    if (Date.now() > deadline) throw new Error(`the log of ${role} does not say "${text}"`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
