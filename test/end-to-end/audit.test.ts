/** The audit stream of a real coordinator: complete after a crash, and never in the way of anything. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { AuditEntry } from '../../messages/audit.ts'
import type { Bus } from '../../messages/bus.ts'
import { AUDIT } from '../../messages/topology.ts'
import { connectRaw } from '../messages/raw-client.ts'
import { testVhost } from '../support/broker.ts'
import { cleanEnvironment, LAUNCHER } from '../support/fleet-roles.ts'
import { poll } from '../support/poll.ts'
import { type ScriptedFleet, startScriptedFleet } from '../support/scripted-fleet.ts'

const run = promisify(execFile)
const place = { repository: 'main', instance: 'shop', target: 'db-7' }
const LIFE = ['validating', 'mounting', 'recovering', 'published', 'unpublishing', 'closed']

describe('the audit stream of a coordinator', function () {
  this.timeout(120_000)
  let fleet: ScriptedFleet
  let client: Bus

  async function start(options: Parameters<typeof startScriptedFleet>[0] = {}): Promise<void> {
    fleet = await startScriptedFleet(options)
    client = await connectBus({
      ...{ url: fleet.url, appId: 'nightly', role: 'client', logger: pino({ level: 'silent' }) },
    })
  }

  afterEach(async () => {
    await client?.close()
    await fleet?.remove()
  })

  async function publish(): Promise<string> {
    const reply = await client.request('instance.publish', { ...place, reference: 'job-7' })
    if (!reply.accepted) throw new Error(reply.error.message)
    await untilState(reply.session, 'published')
    return reply.session
  }

  const untilState = (session: string, state: string): Promise<true> =>
    poll(
      async () => {
        const reply = await client.request('session.show', { session })
        return reply.accepted && reply.session.state === state ? true : undefined
      },
      { deadlineMs: 30_000, failure: () => `the session is not ${state}` },
    )

  async function audit(...args: string[]): Promise<AuditEntry[]> {
    const { stdout } = await run(LAUNCHER, ['audit', '--json', ...args], {
      env: { ...cleanEnvironment(), HOWDAH_BROKER_URL: fleet.url },
    })
    return stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]))
  }

  const untilClosed = (session: string): Promise<AuditEntry[]> =>
    poll(
      async () => {
        const entries = await audit('--session', session)
        return entries.some(({ type, body }) => type === 'audit.session' && body.state === 'closed')
          ? entries
          : undefined
      },
      { deadlineMs: 60_000, everyMs: 500, failure: () => 'the end of the session is not in the stream' },
    )

  it('has everything once and in order, also across a kill -9', async () => {
    await start()
    const session = await publish()
    await fleet.stopCoordinator('SIGKILL')
    await fleet.startCoordinator()
    await client.request('session.promote', { session })
    await client.request('session.unpublish', { session })
    const entries = await untilClosed(session)
    const states = entries.flatMap(({ type, body }) => (type === 'audit.session' ? [body.state] : []))
    expect(states).to.deep.equal(LIFE)
    const commands = entries.flatMap(({ type, body }) => (type === 'audit.command' ? [body] : []))
    expect(commands.map(({ command, outcome, error }) => [command, outcome, error?.code])).to.deep.equal([
      ['instance.publish', 'accepted', undefined],
      ['session.promote', 'refused', 'session_state'],
      ['session.unpublish', 'accepted', undefined],
    ])
    for (const { sender } of commands)
      expect(sender).to.deep.equal({ user: 'howdah', application: 'nightly' })
    expect(commands[0]).to.include({ reference: 'job-7' })
    const { stdout } = await run(LAUNCHER, ['audit', '--session', session], {
      env: { ...cleanEnvironment(), HOWDAH_BROKER_URL: fleet.url },
    })
    expect(stdout).to.include('howdah: instance.publish accepted repository=main instance=shop target=db-7')
    expect(stdout).to.match(/session\.promote refused: session_state: /)
  })

  it('that RabbitMQ cannot have holds nothing up, and gets everything when it can', async () => {
    const vhost = await testVhost()
    const raw = await connectRaw(vhost.url)
    // A queue of that name that is no stream: the coordinator's declaration is refused.
    await raw.channel.assertQueue(AUDIT.name, { durable: true })
    await start({ vhost })
    const session = await publish()
    await client.request('session.unpublish', { session })
    await untilState(session, 'closed')
    const refusal = `refused to publish to the exchange ${AUDIT.name}, because it exists there with other properties`
    await poll(async () => ((await fleet.log()).includes(refusal) ? true : undefined), {
      ...{ deadlineMs: 30_000, failure: () => 'it was not tried' },
    })
    await raw.channel.deleteQueue(AUDIT.name)
    await raw.close()
    const entries = await untilClosed(session)
    expect(entries.flatMap(({ type, body }) => (type === 'audit.session' ? [body.state] : []))).to.deep.equal(
      LIFE,
    )
  })
})
