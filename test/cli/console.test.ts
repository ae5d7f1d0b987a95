/** `howdah up --console`, and what an operator sees in the console: of a fleet, of one session, and of what went wrong. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { version } from '../../config/version.ts'
import { connectRaw } from '../messages/raw-client.ts'
import { cleanEnvironment, LAUNCHER } from '../support/fleet-roles.ts'
import { type ManagementApi, managementApi } from '../support/management-api.ts'
import { poll } from '../support/poll.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)
const VHOST = '%2F'
/** A queue of the operator's own, to look at messages. */
const LOOK = 'operator.look'

interface Shown {
  readonly routing_key: string
  readonly exchange: string
  readonly payload: string
  readonly properties: {
    readonly correlation_id?: string
    readonly message_id?: string
    readonly user_id?: string
    readonly app_id?: string
    readonly type?: string
    readonly headers?: Record<string, unknown>
  }
}

describe('howdah up --console', function () {
  this.timeout(120_000)
  let directory: string
  let state: string
  let up: ChildProcess
  let ready: { console: string; broker: string }
  let api: ManagementApi
  let brokerUrl: string
  let session: string

  const howdah = async (...args: string[]): Promise<{ status: number; stdout: string }> => {
    try {
      const { stdout } = await run(LAUNCHER, [...args, '--state', state], { env: cleanEnvironment() })
      return { status: 0, stdout }
    } catch (error) {
      const { code, stdout } = error as { code: number; stdout: string }
      return { status: code, stdout }
    }
  }
  const lookAt = (queue: string): Promise<Shown[]> =>
    api.send('POST', `queues/${VHOST}/${queue}/get`, {
      ...{ count: 100, ackmode: 'ack_requeue_true', encoding: 'auto', truncate: 50_000 },
    }) as Promise<Shown[]>

  before(async () => {
    directory = await scratchDirectory('howdah-console-')
    state = path.join(directory, 'state')
    await mkdir(path.join(directory, 'repository'))
    const repository = `demo=basebackup:${path.join(directory, 'repository')}`
    const roots = {
      HOWDAH_MOUNT_ROOT: path.join(directory, 'mnt'),
      HOWDAH_CACHE_ROOT: path.join(directory, 'cache'),
    }
    up = spawn(LAUNCHER, ['up', '--console', '--json', '--state', state, '--repository', repository], {
      env: { ...cleanEnvironment(), ...roots },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [line] = (await Promise.race([
      once(up.stdout as NodeJS.ReadableStream, 'data'),
      once(up, 'exit').then(() => Promise.reject(new Error('howdah up ended'))),
    ])) as [Buffer]
    ready = JSON.parse(line.toString())
    const { url, user, password } = JSON.parse(await readFile(path.join(state, 'console.json'), 'utf8'))
    expect(url).to.equal(ready.console)
    api = managementApi(`http://${user}:${password}@${new URL(url).host}`)
    brokerUrl = JSON.parse(await readFile(path.join(state, 'up.json'), 'utf8')).broker
    await api.send('PUT', `queues/${VHOST}/${LOOK}`, { durable: true })
    const bind = (exchange: string, key: string) =>
      api.send('POST', `bindings/${VHOST}/e/${exchange}/q/${LOOK}`, { routing_key: key })
    await Promise.all([
      bind('howdah.events', 'session.#'),
      bind('howdah.events', 'agent.*.*.step-*'),
      bind('howdah.agents', 'mount.local'),
      bind('howdah.commands', 'instance.publish'),
    ])
    const place = ['--repository', 'demo', '--instance', 'none', '--target', 'local']
    const { stdout } = await howdah('publish', ...place, '--reference', 'ticket-7', '--json')
    session = JSON.parse(stdout).id
  })

  after(async () => {
    if (up.exitCode === null && up.signalCode === null) {
      up.kill('SIGTERM')
      await once(up, 'exit')
    }
    await rm(directory, { recursive: true, force: true })
  })

  it('runs it on this machine only, with its user and password in a file of the owner', async () => {
    expect(ready.console).to.match(/^http:\/\/127\.0\.0\.1:\d+$/)
    expect((await stat(path.join(state, 'console.json'))).mode & 0o777).to.equal(0o600)
    // As the kernel has it: what RabbitMQ says of the port leaves the address out.
    const port = Number(new URL(ready.console).port).toString(16).toUpperCase().padStart(4, '0')
    const sockets = (
      await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8')))
    ).join()
    const listening = [...sockets.matchAll(/^ *\d+: (\w+):(\w{4}) \w+:\w{4} 0A /gm)]
    expect(listening.filter(([, , of]) => of === port).map(([, address]) => address)).to.deep.equal([
      '0100007F',
    ])
    expect((await fetch(ready.console)).status).to.equal(200)
  })

  it('shows each connection by kind, name, release and purpose', async () => {
    const expected = ['target local', 'mount local'].flatMap((name) =>
      ['publish', 'consume'].map((purpose) => `howdah ${name} ${version()} (${purpose})`),
    )
    const connections = await poll(
      async () => {
        const all =
          await api.get<{ client_properties: Record<string, string>; user: string }[]>('connections')
        const names = all.map(({ client_properties }) => client_properties.connection_name ?? '')
        return expected.every((name) => names.includes(name)) &&
          names.some((name) => name.endsWith('(audit)'))
          ? all
          : undefined
      },
      { deadlineMs: 30_000, failure: () => 'the connections are not shown' },
    )
    const names = connections.map(({ client_properties }) => client_properties.connection_name)
    expect(names.filter((name) => name?.startsWith('howdah coordinator '))).to.have.length(3)
    for (const { client_properties } of connections) {
      expect(client_properties).to.include({ product: 'Howdah', version: version() })
    }
  })

  it('shows who consumes which queue, and what is bound to it', async () => {
    const consumers = await api.get<{ consumer_tag: string; queue: { name: string } }[]>('consumers')
    const tags = Object.fromEntries(consumers.map(({ queue, consumer_tag }) => [queue.name, consumer_tag]))
    expect(tags).to.include({
      'howdah.target.local': 'howdah target local',
      'howdah.mount.local': 'howdah mount local',
    })
    for (const queue of ['howdah.coordinator', 'howdah.coordinator.events', 'howdah.coordinator.lease']) {
      expect(tags[queue]).to.match(/^howdah coordinator /)
    }
    const bindings = await api.get<{ source: string; routing_key: string }[]>(
      `queues/${VHOST}/howdah.target.local/bindings`,
    )
    expect(bindings.find(({ source }) => source === 'howdah.agents')?.routing_key).to.equal('target.local')
    const stream = await api.get<{ type: string; arguments: object }>(`queues/${VHOST}/howdah.audit`)
    expect(stream.type).to.equal('stream')
  })

  it('shows the messages of a session, from the command to its end, each with the session in its properties', async () => {
    const messages = await lookAt(LOOK)
    const ofSession = messages.filter(({ properties }) => properties.headers?.['howdah-session'] === session)
    const types = ofSession.map(({ properties }) => properties.type)
    expect(types).to.include.members([
      'session.state',
      'step.run',
      'session.step-started',
      'session.step-failed',
    ])
    for (const { properties } of ofSession) {
      expect(properties).to.include({ correlation_id: session, user_id: 'howdah' })
      expect(properties.message_id).to.be.a('string').and.not.equal('')
    }
    const [command] = messages.filter(({ exchange }) => exchange === 'howdah.commands')
    expect(JSON.parse(command?.payload ?? '')).to.include({ reference: 'ticket-7' })
  })

  it('shows a dead letter with its reason, and so does howdah dead-letters', async () => {
    const raw = await connectRaw(brokerUrl)
    await raw.publish('howdah.commands', 'instance.publish', '{"password":1}', {
      ...{ type: 'instance.publish', messageId: 'wrong-1', userId: 'howdah', appId: 'test' },
      headers: { 'howdah-version': 2 },
    })
    await raw.close()
    const [shown] = await poll(
      async () => {
        const letters = await lookAt('howdah.dead-letters')
        return letters.length > 0 ? letters : undefined
      },
      { deadlineMs: 20_000, failure: () => 'there is no dead letter' },
    )
    expect(shown?.properties.headers).to.include({
      ...{ 'howdah-exchange': 'howdah.commands', 'howdah-routing-key': 'instance.publish' },
      ...{ 'howdah-queue': 'howdah.coordinator', 'howdah-user': 'howdah' },
    })
    expect(shown?.properties.headers?.['howdah-reason']).to.match(/^invalid_message: /)
    const { deadLetters } = JSON.parse((await howdah('dead-letters', 'list', '--json')).stdout)
    expect(deadLetters[0]).to.include({ messageId: 'wrong-1', user: 'howdah', application: 'test' })
    expect(deadLetters[0].reason).to.equal(shown?.properties.headers?.['howdah-reason'])
  })

  it('keeps who asked for what in the audit stream, which howdah audit reads', async () => {
    const entries = await poll(
      async () => {
        const { stdout } = await howdah('audit', '--session', session, '--json')
        const lines = stdout
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => JSON.parse(line))
        return lines.at(-1)?.body.state === 'closed' || lines.at(-1)?.body.state === 'failed'
          ? lines
          : undefined
      },
      { deadlineMs: 30_000, everyMs: 500, failure: () => 'the stream does not have the end of the session' },
    )
    expect(entries[0]).to.deep.nested.include({
      type: 'audit.command',
      'body.command': 'instance.publish',
      'body.sender': { user: 'howdah', application: 'howdah-client' },
      'body.outcome': 'accepted',
      'body.reference': 'ticket-7',
    })
    expect(entries[1]).to.deep.nested.include({ type: 'audit.session', 'body.reference': 'ticket-7' })
    const ids = entries.map(({ body }) => body.id)
    expect(new Set(ids).size).to.equal(ids.length)
  })

  it('takes the file away when it stops', async () => {
    up.kill('SIGTERM')
    await once(up, 'exit')
    expect(await stat(path.join(state, 'console.json')).catch(({ code }) => code)).to.equal('ENOENT')
  })
})
