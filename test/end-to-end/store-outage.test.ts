import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ChannelModel, connect } from 'amqplib'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { DEAD_LETTERS } from '../../messages/topology.ts'
import type { SessionView } from '../../messages/values.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { type CoordinatorProcess, startCoordinator } from '../support/coordinator-process.ts'
import { type InstantAgents, startInstantAgents } from '../support/instant-agents.ts'
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.ts'
import { poll } from '../support/poll.ts'
import { scratchDirectory } from '../support/scratch.ts'

const logger = pino({ level: 'silent' })
/** Longer than a handler that fails is tried. */
const OUTAGE_MS = 15_000
const COMMANDS = 20
const REPORTS = 60

describe('a store that is away while commands and reports arrive', function () {
  this.timeout(180_000)
  let vhost: TestVhost
  let server: OwnPostgres
  let directory: string
  let coordinator: CoordinatorProcess
  let agents: InstantAgents
  let client: Bus
  let raw: ChannelModel

  before(async () => {
    vhost = await testVhost()
    server = await startOwnPostgres()
    directory = await scratchDirectory('howdah-store-outage-')
    const config = { broker: { url: vhost.url }, store: { url: server.url } }
    coordinator = await startCoordinator(directory, 'coordinator', config)
    agents = await startInstantAgents(vhost.url, logger)
    client = await connectBus({ url: vhost.url, appId: 'client', role: 'client', logger })
    raw = await connect(vhost.url)
  })

  after(async () => {
    await coordinator?.kill()
    await raw?.close()
    await client?.close()
    await agents?.close()
    await server?.remove()
    await vhost?.remove()
    if (directory) await rm(directory, { recursive: true })
  })

  /** Asks with the same message id until it is answered, as clients do. @returns the session */
  async function publish(name: string): Promise<string> {
    const body = { repository: 'main', instance: name, target: 'db-7' }
    for (;;) {
      const reply = await client
        .request('instance.publish', body, { messageId: `publish-${name}`, timeoutMs: 3_000 })
        .catch(() => undefined)
      if (reply?.accepted) return reply.session
      if (reply?.accepted === false) expect(reply.error.code).to.equal('agent_offline')
    }
  }

  async function show(session: string): Promise<SessionView> {
    const reply = await client.request('session.show', { session })
    return (reply as { session: SessionView }).session
  }

  const published = (session: string): Promise<SessionView> =>
    poll(
      async () => {
        const view = await show(session)
        return view.state === 'published' ? view : undefined
      },
      { deadlineMs: 60_000, failure: () => `${session} is not published` },
    )

  const outages: Record<string, { begin(): Promise<void>; end(): Promise<void> }> = {
    'is stopped': { begin: () => server.stop('immediate'), end: () => server.start() },
    'does not answer': { begin: async () => server.freeze(), end: async () => server.thaw() },
  }

  for (const [what, { begin, end }] of Object.entries(outages)) {
    it(`loses none of them when its server ${what}, and dead-letters nothing`, async () => {
      const tag = what.replaceAll(' ', '')
      const known = await publish(`known-${tag}`)
      await published(known)
      const commands: Promise<string>[] = []
      const reports: Promise<void>[] = []
      const warnings = Array.from({ length: REPORTS }, (_, index) => `finding ${index} of ${tag}`)
      async function load(part: number, of: number): Promise<void> {
        for (let index = part; index < COMMANDS; index += of) commands.push(publish(`${tag}-${index}`))
        for (let index = part; index < REPORTS; index += of) {
          const body = { session: known, warnings: [warnings[index] as string] }
          reports.push(agents.report({ kind: 'target', name: 'db-7' }, 'session.findings', body))
          await sleep(20)
        }
      }
      await load(0, 3)
      await begin()
      await load(1, 3)
      await sleep(OUTAGE_MS)
      await load(2, 3)
      await end()
      await Promise.all(reports)
      const sessions = await Promise.all(commands)
      expect(new Set(sessions).size).to.equal(COMMANDS)
      for (const session of sessions) await published(session)
      await poll(
        async () => {
          const found = (await show(known)).warnings
          return warnings.every((warning) => found.includes(warning)) || undefined
        },
        { deadlineMs: 30_000, failure: () => 'reports are missing' },
      )
      const channel = await raw.createChannel()
      expect((await channel.checkQueue(DEAD_LETTERS.name)).messageCount).to.equal(0)
      await channel.close()
    })
  }
})
