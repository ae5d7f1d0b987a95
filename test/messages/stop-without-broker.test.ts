import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import type { PrivateBroker } from '../../coordinator/cli/broker.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { cleanEnvironment, LAUNCHER } from '../support/fleet-roles.ts'
import { startTestBroker } from '../support/rabbitmq.ts'
import { failure } from './failure.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
/** An emit waits 30 s for its confirm, a role 20 s for its orderly end. */
const SOON_MS = 8_000
const USAGE = { session: 's1', usage: { fetchedBytes: 1, totalBytes: 2, cacheBytes: 3 } }

describe('without a broker', function () {
  this.timeout(120_000)
  let directory: string
  let broker: PrivateBroker
  let bus: Bus
  let role: ChildProcess
  const handling = Promise.withResolvers<void>()
  const handled = Promise.withResolvers<void>()

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-stop-'))
    broker = await startTestBroker({ directory: join(directory, 'broker'), logger })
    bus = await connectBus({ url: broker.url, appId: 'first', role: 'coordinator', logger })
    await bus.consumeReports(async () => {
      handling.resolve()
      await handled.promise
      await bus.emit('session.usage', USAGE)
      return 'ack'
    })
    const agent = { kind: 'target', name: 't1' } as const
    await bus.report(agent, 'session.findings', { session: 's1', warnings: ['one'] })
    await handling.promise
    const configuration = { broker: { url: broker.url }, store: { path: join(directory, 'store.sqlite') } }
    await writeFile(join(directory, 'coordinator.json'), JSON.stringify(configuration))
    role = spawn(LAUNCHER, ['coordinator', '--config', join(directory, 'coordinator.json'), '--json'], {
      env: cleanEnvironment(),
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    if (!role.stdout) throw new Error('it has no output')
    await once(role.stdout, 'data')
    await broker.stop()
    while (bus.connectedSince !== undefined) await new Promise((resolve) => setTimeout(resolve, 10))
  })

  after(async () => {
    role?.kill('SIGKILL')
    await bus?.close()
    await broker?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  it('a bus is closed soon: what waits to be sent is abandoned, and handlers that wait for it end', async () => {
    handled.resolve()
    const emitting = failure(bus.emit('session.usage', USAGE))
    const began = Date.now()
    await bus.close()
    expect(Date.now() - began).to.be.below(SOON_MS)
    expect((await emitting).code).to.equal('broker_unavailable')
  })

  it('a role ends soon and in order when it is told to', async () => {
    const exited = once(role, 'exit')
    const began = Date.now()
    role.kill('SIGTERM')
    expect(await exited).to.deep.equal([0, null])
    expect(Date.now() - began).to.be.below(SOON_MS)
  })
})
