/** The endpoint of a role: what it answers, and that nobody who asks holds up another, or the role. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect } from 'chai'
import { pino } from 'pino'
import { Gauge } from 'prom-client'
import { ConfigurationError } from '../../config/configuration-error.ts'
import {
  type EndpointLimits,
  type MonitoringEndpoint,
  openMonitoringEndpoint,
} from '../../config/monitoring/endpoint.ts'
import { createMonitor, type RoleMonitor } from '../../config/monitoring/monitor.ts'
import { describeProcess } from '../../config/monitoring/process-metrics.ts'
import { poll } from '../support/poll.ts'

const logger = pino({ level: 'silent' })

describe('the endpoint of metrics and health', () => {
  let monitor: RoleMonitor
  let endpoint: MonitoringEndpoint | undefined
  const sockets: Socket[] = []

  beforeEach(() => {
    monitor = createMonitor()
  })

  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy()
    await endpoint?.close()
    endpoint = undefined
  })

  async function open(limits: Partial<EndpointLimits> = {}): Promise<string> {
    endpoint = await openMonitoringEndpoint({ listen: '127.0.0.1:0', monitor, logger, limits })
    return `http://127.0.0.1:${endpoint.address.port}`
  }

  async function rawSocket(): Promise<Socket> {
    const socket = connect(endpoint?.address.port ?? 0, '127.0.0.1')
    sockets.push(socket)
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    return socket
  }

  it('gives the metrics of the process and the build in the format of Prometheus', async () => {
    describeProcess(monitor.registry, 'mount-agent')
    const response = await fetch(`${await open()}/metrics`)
    expect(response.status).to.equal(200)
    expect(response.headers.get('content-type')).to.match(/^text\/plain; version=0\.0\.4/)
    const text = await response.text()
    expect(text).to.match(/^howdah_build_info\{role="mount-agent",version="[^"]+",node="v\d+/m)
    expect(text).to.match(/^process_cpu_seconds_total /m)
  })

  it('is alive from the start, and ready only once the role has started and every part works', async () => {
    let problem: string | undefined = 'there is no connection'
    monitor.check('broker', () => problem)
    monitor.check('store', async () => {
      throw new Error('the disk is gone')
    })
    const url = await open()
    expect((await fetch(`${url}/healthz`)).status).to.equal(200)
    const starting = await fetch(`${url}/readyz`)
    expect(starting.status).to.equal(503)
    expect(await starting.json()).to.deep.equal({
      status: 'not ready',
      problems: [
        { part: 'role', problem: 'the role has not started yet' },
        { part: 'broker', problem: 'there is no connection' },
        { part: 'store', problem: 'the disk is gone' },
      ],
    })
    monitor.readiness.started()
    problem = undefined
    const started = await fetch(`${url}/readyz`)
    expect([started.status, ((await started.json()) as { problems: unknown[] }).problems]).to.deep.equal([
      503,
      [{ part: 'store', problem: 'the disk is gone' }],
    ])
    monitor.readiness.stopping()
    expect((await fetch(`${url}/readyz`)).status).to.equal(503)
  })

  it('is ready when nothing is wrong', async () => {
    monitor.check('broker', () => undefined)
    monitor.readiness.started()
    const response = await fetch(`${await open()}/readyz`)
    expect([response.status, await response.json()]).to.deep.equal([200, { status: 'ready', problems: [] }])
  })

  it('says of a part that does not answer that it does not', async () => {
    monitor.check('store', () => new Promise(() => undefined))
    monitor.readiness.started()
    const response = await fetch(`${await open()}/readyz`)
    expect(await response.json()).to.deep.equal({
      status: 'not ready',
      problems: [{ part: 'store', problem: 'no answer within 2 s' }],
    })
  })

  it('answers nothing but GET and HEAD of its three paths', async () => {
    new Gauge({ name: 'described', help: 'x'.repeat(100), registers: [monitor.registry] })
    const url = await open()
    const post = await fetch(`${url}/metrics`, { method: 'POST', body: 'x' })
    expect([post.status, post.headers.get('allow')]).to.deep.equal([405, 'GET, HEAD'])
    expect((await fetch(`${url}/etc/passwd`)).status).to.equal(404)
    const head = await fetch(`${url}/metrics`, { method: 'HEAD' })
    expect([head.status, await head.text()]).to.deep.equal([200, ''])
    expect(Number(head.headers.get('content-length'))).to.be.greaterThan(100)
  })

  it('collects once at a time, however many ask, and says so when a collection takes too long', async () => {
    let begun = 0
    const { promise: released, resolve: release } = Promise.withResolvers<void>()
    new Gauge({
      name: 'slow',
      help: 'slow',
      registers: [monitor.registry],
      async collect() {
        begun += 1
        await released
        this.set(1)
      },
    })
    const url = await open({ collectMs: 50 })
    const responses = await Promise.all([1, 2, 3].map(() => fetch(`${url}/metrics`)))
    expect(responses.map(({ status }) => status)).to.deep.equal([503, 503, 503])
    expect((await fetch(`${url}/healthz`)).status).to.equal(200)
    expect(begun).to.equal(1)
    release()
    await answered(`${url}/metrics`)
  })

  it('closes a connection on which no request arrives', async () => {
    await open({ exchangeMs: 200 })
    const idle = await rawSocket()
    idle.write('GET /metrics HTTP/1.1\r\nhost: ')
    idle.resume()
    await once(idle, 'close')
  })

  it('closes a connection whose client does not read its answer', async () => {
    const bytes = 32 * 1024 * 1024
    new Gauge({ name: 'large', help: 'x'.repeat(bytes), registers: [monitor.registry] })
    const url = await open({ exchangeMs: 300, connections: 1 })
    const slow = await rawSocket()
    slow.pause()
    slow.write('GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n')
    // It has the only connection that there may be, until it loses it.
    expect(await fetch(`${url}/healthz`).catch(() => 'refused')).to.equal('refused')
    await answered(`${url}/healthz`)
    let received = 0
    slow.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
    slow.resume()
    await once(slow, 'close')
    expect(received).to.be.lessThan(bytes)
  })

  it('takes no more connections than its limit', async () => {
    await open({ connections: 2 })
    const [, , third] = [await rawSocket(), await rawSocket(), await rawSocket()]
    await once(third as Socket, 'close')
  })

  it('refuses an address that is taken, by the name of the key', async () => {
    const url = await open()
    const failure = await openMonitoringEndpoint({ listen: new URL(url).host, monitor, logger }).catch(
      (error: unknown) => error,
    )
    expect(failure).to.be.instanceOf(ConfigurationError)
    expect((failure as Error).message).to.match(/^metrics\.listen: .* a port of its own\.$/)
  })

  /** Resolves when the address is answered with 200. */
  const answered = (url: string): Promise<true> =>
    poll(
      () =>
        fetch(url).then(
          ({ status }) => (status === 200 ? (true as const) : undefined),
          () => undefined,
        ),
      { deadlineMs: 5_000, failure: () => `${url} was not answered` },
    )
})
