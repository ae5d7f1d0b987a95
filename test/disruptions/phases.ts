/** Each disruption hits sessions in all their phases at once; each goes on by itself from where it was. */
import { readFile } from 'node:fs/promises'
import { expect } from 'chai'
import type { SessionView } from '../../messages/values.ts'
import { MACHINE } from '../support/host-layout.ts'
import { expectGone, type World } from './world.ts'

interface Disruption {
  readonly name: string
  begin(world: World): Promise<void>
  /** Resolves when somebody has noticed. `early`: a session that was begun when it had begun. */
  noticed?(world: World, early: string): Promise<void>
  end(world: World): Promise<void>
  /** Whether the published instance goes on meanwhile. */
  readonly instanceStays: boolean
  /** Whether commands are taken meanwhile. */
  readonly commandsTaken: boolean
  /** What the history of the session tells that was begun while it lasted. */
  readonly told?: string
}

/** The session's agent is taken for lost, and the session says so. */
async function agentMissed(world: World, early: string): Promise<void> {
  await world.until(early, 'waiting for its agent', ({ error }) => error?.code === 'agent_offline')
}

const DISRUPTIONS: readonly Disruption[] = [
  {
    name: 'a cut between target and broker',
    begin: ({ hosts }) => hosts.cut('target-agent', MACHINE),
    noticed: agentMissed,
    end: ({ hosts }) => hosts.restoreAll(),
    instanceStays: true,
    commandsTaken: true,
    told: 'agent_offline',
  },
  {
    name: 'a cut between mount server and broker',
    begin: ({ hosts }) => hosts.cut('mount-agent', MACHINE),
    noticed: agentMissed,
    end: ({ hosts }) => hosts.restoreAll(),
    instanceStays: true,
    commandsTaken: true,
    told: 'agent_offline',
  },
  {
    name: 'a cut between target and mount server',
    begin: ({ hosts }) => hosts.cut('target-agent', 'mount-agent', 'refused'),
    noticed: async ({ until }, early) => {
      await until(early, 'refused', ({ error }) => error?.code === 'repository_unavailable')
    },
    end: ({ hosts }) => hosts.restoreAll(),
    instanceStays: true,
    commandsTaken: true,
    told: 'repository_unavailable',
  },
  {
    name: 'a half-open connection between coordinator and broker',
    begin: ({ hosts }) => hosts.cut('coordinator', MACHINE, 'deaf'),
    noticed: (world) => untilLogged(world, 'coordinator', 'lost the connection to RabbitMQ'),
    end: ({ hosts }) => hosts.restoreAll(),
    instanceStays: true,
    commandsTaken: false,
  },
  {
    name: 'a crash of the broker',
    begin: ({ fleet }) => fleet.restartBroker({ crash: true }),
    end: async () => undefined,
    instanceStays: true,
    commandsTaken: true,
  },
  {
    name: 'a reboot of the target',
    begin: (world) => world.rebootTarget(),
    end: ({ fleet }) => fleet.start('target-agent'),
    instanceStays: false,
    commandsTaken: true,
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
        if (!disruption.commandsTaken) early = await world.begin()
        await disruption.begin(world)
        if (disruption.commandsTaken) early = await world.begin()
        begun.push(early)
        if (disruption.instanceStays) await world.keep(published, 2)
        await disruption.noticed?.(world, early)
        await disruption.end(world)
      })

      after(async () => {
        await of().hosts.restoreAll()
        for (const id of [published.id, exporting, recovering, early]) await of().unpublish(id)
      })

      it('a session that had just been begun is published', async () => {
        const view = await of().untilPublished(early)
        await of().expectWhole(view, [])
        if (disruption.told !== undefined) expect(await of().errors(early)).to.include(disruption.told)
      })

      it('a session that was being recovered is published', async () => {
        const view = await of().untilPublished(recovering)
        await of().expectWhole(view, [])
      })

      it('a published session has everything that was committed', async () => {
        const view = await of().untilPublished(published.id)
        await of().expectWhole(view, kept)
      })

      it('an export that was under way is done', async () => {
        const view = await of().until(exporting, 'exported', ({ state, exports = [] }) => {
          const ended = exports.every(({ status }) => status !== 'pending' && status !== 'running')
          return state === 'published' && ended
        })
        const [job] = view.exports ?? []
        expect(job, JSON.stringify(job)).to.include({ status: 'done' })
        expect(job?.databases.map(({ status }) => status)).to.deep.equal(['done'])
      })

      it('a session that was being unpublished is gone', async () => {
        await of().until(ending, 'closed', ({ state }) => state === 'closed')
        await expectGone(of(), ending)
      })
    })
  }
}

/** The log of a role says something that it had not said before. */
async function untilLogged({ fleet }: World, role: string, text: string): Promise<void> {
  const said = async (): Promise<number> =>
    (await readFile(`${fleet.directory}/${role}.log`, 'utf8')).split(text).length
  const before = await said()
  const deadline = Date.now() + 30_000
  while ((await said()) === before) {
    if (Date.now() > deadline) throw new Error(`the ${role} does not say "${text}"`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
