import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus, ReportDelivery } from '../../messages/bus.ts'
import { restartBroker, type TestVhost, testVhost } from '../support/broker.ts'
import { command, MOUNTED } from './commands.ts'

const AGENT = fileURLToPath(new URL('crashing-agent.ts', import.meta.url))
const ADDRESS = { kind: 'target', name: 'crashing' } as const

describe('an agent that crashes', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let bus: Bus
  let directory: string
  let events: ReportDelivery[]
  const children: ChildProcess[] = []

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    bus = await connectBus({
      url: vhost.url,
      appId: 'coordinator',
      role: 'coordinator',
      logger: pino({ level: 'silent' }),
    })
    await bus.enroll(ADDRESS)
    const keep = async (delivery: ReportDelivery) => {
      events.push(delivery)
      return 'ack' as const
    }
    await bus.consumeHeartbeats(keep)
    await bus.consumeObservations(keep)
    await bus.consumeReports(keep)
  })

  beforeEach(async () => {
    events = []
    directory = await mkdtemp(join(tmpdir(), 'howdah-runtime-'))
  })

  afterEach(async () => {
    for (const child of children.splice(0)) await kill(child)
    await rm(directory, { recursive: true })
  })

  after(async () => {
    await bus?.close()
    await vhost?.remove()
  })

  async function startAgent(): Promise<ChildProcess> {
    const seen = events.length
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', AGENT, vhost.url, directory],
      {
        stdio: ['ignore', 'inherit', 'inherit'],
      },
    )
    children.push(child)
    await until(() => events.slice(seen).some(({ type }) => type === 'agent.online'))
    return child
  }

  async function kill(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }

  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await sleep(10)
  }

  const ran = (times: number) => existsSync(join(directory, `run-${times}`))
  const done = (session: string) =>
    events.filter(({ type, body }) => type === 'session.step-done' && body.session === session)

  it('repeats the step that it was killed in, without another command', async () => {
    const first = await startAgent()
    await bus.sendToAgent(ADDRESS, 'step.run', command('s1', 1))
    await until(() => ran(1))
    await kill(first)
    await writeFile(join(directory, 'go'), '')
    await startAgent()
    await until(() => done('s1').length > 0)
    expect(done('s1')[0]?.body).to.deep.include({ sequence: 1, direction: 'run', result: MOUNTED })
    expect(ran(2)).to.equal(true)
  })

  it('runs the step that was sent while it was down', async () => {
    await kill(await startAgent())
    await writeFile(join(directory, 'go'), '')
    await bus.sendToAgent(ADDRESS, 'step.run', command('s2', 1))
    await startAgent()
    await until(() => done('s2').length > 0)
  })

  it('reports the outcome of a step that ends while the broker is down', async () => {
    await startAgent()
    await bus.sendToAgent(ADDRESS, 'step.run', command('s3', 1))
    await until(() => ran(1))
    const restarting = restartBroker()
    await until(() => bus.connectedSince === undefined)
    await writeFile(join(directory, 'go'), '')
    await restarting
    await until(() => done('s3').length > 0)
    expect(ran(2)).to.equal(false)
  })
})
