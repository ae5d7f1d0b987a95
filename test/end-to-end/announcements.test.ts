import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { type ChannelModel, connect } from 'amqplib'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { EventBody } from '../../messages/definitions.ts'
import { type Cable, makeCable } from '../dataplane/cable.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { cleanEnvironment, LAUNCHER } from '../support/fleet-roles.ts'
import { poll } from '../support/poll.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { startScriptedAgent } from '../support/scripted-agents.ts'

type State = EventBody<'session.state'> & { readonly messageId: string }

const EXPIRES_SECONDS = 3

describe('announcements of a coordinator whose broker is away', function () {
  this.timeout(120_000)
  let vhost: TestVhost
  let directory: string
  let cable: Cable
  let coordinator: ChildProcess | undefined
  let listener: ChannelModel
  let undos: (() => Promise<unknown>)[]
  /** As a client receives them, which is connected all the time. */
  let states: State[]

  beforeEach(async () => {
    undos = []
    states = []
    vhost = await testVhost()
    undos.push(() => vhost.remove())
    directory = await scratchDirectory('howdah-announcements-')
    undos.push(() => rm(directory, { recursive: true }))
    const { hostname, port } = new URL(vhost.url)
    cable = await makeCable({ address: { host: hostname, port: Number(port) } })
    undos.push(() => cable.close())
    const url = new URL(vhost.url)
    url.host = `${cable.address.host}:${cable.address.port}`
    const config = {
      broker: { url: `${url.href}?heartbeat=1` },
      store: { path: path.join(directory, 'store.sqlite') },
      heartbeat: { lostAfter: 60 },
    }
    await writeFile(path.join(directory, 'coordinator.json'), JSON.stringify(config), { mode: 0o600 })
    await startCoordinator()
    undos.push(() => stopCoordinator('SIGTERM'))
    for (const address of [
      { kind: 'mount', name: 'main' },
      { kind: 'target', name: 'db-7' },
    ] as const) {
      const agent = await startScriptedAgent({ url: vhost.url, address, directory, heartbeatMs: 500 })
      undos.push(() => agent.close())
    }
    await listen()
  })

  afterEach(async () => {
    for (const undo of undos.reverse()) await undo()
  })

  async function startCoordinator(): Promise<void> {
    const args = ['coordinator', '--json', '--config', path.join(directory, 'coordinator.json')]
    const log = openSync(path.join(directory, 'coordinator.log'), 'a')
    coordinator = spawn(LAUNCHER, args, { env: cleanEnvironment(), stdio: ['ignore', 'pipe', log] })
    closeSync(log)
    await once(coordinator.stdout as NodeJS.ReadableStream, 'data')
  }

  async function stopCoordinator(signal: NodeJS.Signals): Promise<void> {
    if (!coordinator || coordinator.exitCode !== null || coordinator.signalCode !== null) return
    const exited = once(coordinator, 'exit')
    coordinator.kill(signal)
    await exited
  }

  async function listen(): Promise<void> {
    listener = await connect(vhost.url)
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
      url: vhost.url,
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
    poll(
      async () => {
        const log = await readFile(path.join(directory, 'coordinator.log'), 'utf8')
        return log.includes(`"state":"${state}"`) ? true : undefined
      },
      { deadlineMs: 60_000, failure: () => `${state} is not saved` },
    )

  for (const how of ['is killed meanwhile', 'keeps running'] as const) {
    it(`come when the broker is back, if the coordinator ${how}`, async () => {
      const session = await publishShortly()
      cable.cut()
      await untilSaved('unpublishing')
      expect(states.map(({ state }) => state)).not.to.include('unpublishing')
      if (how === 'is killed meanwhile') await stopCoordinator('SIGKILL')
      cable.mend()
      if (how === 'is killed meanwhile') await startCoordinator()
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
