import { connect } from 'amqplib'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { EventBody } from '../../messages/definitions.ts'
import { type Cable, makeCable } from '../dataplane/cable.ts'
import { poll } from '../support/poll.ts'
import { type ScriptedFleet, startScriptedFleet } from '../support/scripted-fleet.ts'

type State = EventBody<'session.state'> & { readonly messageId: string }

const EXPIRES_SECONDS = 3
/** A coordinator that notices that its broker is away begins nothing by itself: another one may be active. So it notices late. */
const HEARTBEAT_SECONDS = 8

describe('announcements of a coordinator whose broker is away', function () {
  this.timeout(120_000)
  let fleet: ScriptedFleet
  let cable: Cable
  let undos: (() => Promise<unknown>)[]
  /** As a client receives them, which is connected all the time. */
  let states: State[]

  beforeEach(async () => {
    undos = []
    states = []
    const way = async (url: URL): Promise<URL> => {
      cable = await makeCable({ address: { host: url.hostname, port: Number(url.port) } })
      undos.push(() => cable.close())
      url.host = `${cable.address.host}:${cable.address.port}`
      url.search = `heartbeat=${HEARTBEAT_SECONDS}`
      return url
    }
    fleet = await startScriptedFleet({ way })
    undos.push(() => fleet.remove())
    await listen()
  })

  afterEach(async () => {
    for (const undo of undos.reverse()) await undo()
  })

  async function listen(): Promise<void> {
    const listener = await connect(fleet.url)
    undos.push(() => listener.close())
    const channel = await listener.createChannel()
    const { queue } = await channel.assertQueue('', { exclusive: true })
    await channel.bindQueue(queue, 'howdah.events', 'session.*.state')
    const take = (content: Buffer, messageId: string): void => {
      states.push({ ...JSON.parse(content.toString()), messageId })
    }
    await channel.consume(
      queue,
      (message) => message && take(message.content, String(message.properties.messageId)),
      { noAck: true },
    )
  }

  const untilAnnounced = (state: State['state']): Promise<State> =>
    poll(() => states.find((one) => one.state === state), {
      ...{ deadlineMs: 60_000 },
      failure: () => `${state} is not announced, but ${JSON.stringify(states.map((one) => one.state))}`,
    })

  /** A session that expires soon: its state then changes although no message comes. */
  async function publishShortly(): Promise<string> {
    const bus = await connectBus({
      url: fleet.url,
      appId: 'client',
      role: 'client',
      logger: pino({ level: 'silent' }),
    })
    try {
      const body = { repository: 'main', instance: 'shop', target: 'db-7', expiresIn: EXPIRES_SECONDS }
      const session = await poll(
        async () => {
          const reply = await bus.request('instance.publish', body)
          return reply.accepted ? reply.session : undefined
        },
        { deadlineMs: 20_000, failure: () => 'the publish is not accepted' },
      )
      await untilAnnounced('published')
      return session
    } finally {
      await bus.close()
    }
  }

  /** The coordinator logs a state when it is saved. */
  const untilSaved = (state: State['state']): Promise<true> =>
    poll(async () => ((await fleet.log()).includes(`"state":"${state}"`) ? true : undefined), {
      deadlineMs: 60_000,
      failure: () => `${state} is not saved`,
    })

  for (const how of ['is killed meanwhile', 'keeps running'] as const) {
    it(`come when the broker is back, if the coordinator ${how}`, async () => {
      const session = await publishShortly()
      cable.cut()
      await untilSaved('unpublishing')
      expect(states.map(({ state }) => state)).not.to.include('unpublishing')
      if (how === 'is killed meanwhile') await fleet.stopCoordinator('SIGKILL')
      cable.mend()
      if (how === 'is killed meanwhile') await fleet.startCoordinator()
      await untilAnnounced('closed')
      const own = states.filter((one) => one.session === session)
      expect([...new Set(own.map(({ state }) => state))]).to.deep.equal([
        ...['validating', 'mounting', 'recovering', 'published', 'unpublishing', 'closed'],
      ])
      expect(own.find(({ state }) => state === 'published')).to.have.property('connection')
      const versions = own.map(({ version }) => version)
      expect(versions).to.deep.equal(versions.toSorted((a, b) => a - b))
      const ids = new Map(own.map(({ messageId, state }) => [messageId, state]))
      expect(ids.size).to.equal(6)
    })
  }
})
