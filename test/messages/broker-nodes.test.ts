/** Which node of a broker a connection tries, and what it says about those that it cannot reach. */
import { createServer, type Server, type Socket } from 'node:net'
import { expect } from 'chai'
import { pino } from 'pino'
import { brokerAddresses, brokerUser } from '../../messages/broker-address.ts'
import { createBrokerNodes } from '../../messages/broker-nodes.ts'
import { dropConnection } from '../../messages/channels.ts'
import { openConnection } from '../../messages/connection.ts'
import { HowdahError } from '../../messages/errors.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { poll } from '../support/poll.ts'
import { failure } from './failure.ts'

const SHOWN = { shownAs: { name: 'test', version: undefined }, purpose: 'consume' }
const logger = pino({ level: 'silent' })
const nodesOf = (random?: () => number) =>
  createBrokerNodes(brokerAddresses(['amqp://u:p@a/v', 'amqp://u:p@b/v', 'amqp://u:p@c:99/v']), 'u', random)

describe('the addresses of a broker', () => {
  it('have a heartbeat unless a URL gives another one', () => {
    const heartbeat = (url: string) => brokerAddresses(url)[0].searchParams.get('heartbeat')
    expect(heartbeat('amqp://h/v')).to.equal('10')
    expect(heartbeat('amqps://h/v?heartbeat=60')).to.equal('60')
  })

  it('are refused when one is not that of a broker, without naming the password', () => {
    for (const url of ['http://u:sesame@h', 'u:sesame@h', '', ['amqp://h', 'u:sesame@h']]) {
      expect(() => brokerAddresses(url), String(url))
        .to.throw(HowdahError, /^the broker URL must be amqp:/)
        .with.property('code', 'configuration')
    }
    expect(() => brokerAddresses([])).to.throw(HowdahError, 'the broker needs a URL')
  })

  it('are those of one cluster: with one user, password and virtual host, and all with TLS or none', () => {
    const first = 'amqp://u:sesame@a/v'
    expect(brokerUser([first, 'amqp://u:sesame@b/v'])).to.equal('u')
    for (const other of [
      'amqp://x:sesame@b/v',
      'amqp://u:mellon@b/v',
      'amqp://u:sesame@b/w',
      'amqps://u:sesame@b/v',
    ]) {
      expect(() => brokerAddresses([first, other]))
        .to.throw(HowdahError, /those of a and b differ$/)
        .with.property('code', 'configuration')
    }
  })
})

describe('the nodes of a broker', () => {
  it('are tried one after the other, from another one for each client', () => {
    const begun = new Set<string>()
    for (let client = 0; client < 200; client++) {
      const nodes = nodesOf()
      begun.add(nodes.current)
      const tried = [0, 1, 2, 3].map(() => {
        const { current } = nodes
        nodes.failed(new Error('refused'))
        return current
      })
      expect(new Set(tried).size).to.equal(3)
      expect(tried[3]).to.equal(tried[0])
    }
    expect([...begun].sort()).to.deep.equal(['a:5672', 'b:5672', 'c:99'])
  })

  it('are given to amqplib as the fields of their URLs', () => {
    const { target } = createBrokerNodes(
      brokerAddresses('amqps://u%40x:p%2Fw@[::1]/a%2Fb?heartbeat=7'),
      'u@x',
    )
    expect(target).to.deep.equal({
      ...{ protocol: 'amqps', hostname: '::1', port: 5671, vhost: 'a%2Fb' },
      ...{ username: 'u@x', password: 'p/w', heartbeat: '7' },
    })
    expect(createBrokerNodes(brokerAddresses('amqp://h'), 'guest').target).to.include({
      ...{ port: 5672, vhost: '', username: 'guest', password: 'guest' },
    })
  })

  it('are all tried before the delay grows', () => {
    const { delayMs } = nodesOf(() => 0)
    expect([1, 2, 3, 4, 5, 6, 7].map(delayMs)).to.deep.equal([100, 100, 100, 200, 200, 200, 400])
    expect(delayMs(1_000)).to.equal(5_000)
  })

  it('are all named when none can be reached, until one is', () => {
    const nodes = nodesOf()
    expect(nodes.failure).to.equal(undefined)
    nodes.failed(new Error('ECONNREFUSED'))
    nodes.failed(new Error('ETIMEDOUT'))
    expect(nodes.failure?.message).to.match(/at \S+:\d+, as u: ECONNREFUSED; .* at \S+:\d+, as u: ETIMEDOUT$/)
    nodes.failed(new Error('EHOSTUNREACH'))
    expect(nodes.failure?.message)
      .to.match(/a:5672/)
      .and.match(/b:5672/)
      .and.match(/c:99/)
    expect(nodes.failure?.message).to.match(/lost the majority of its nodes/)
    nodes.reached()
    expect(nodes.failure).to.equal(undefined)
  })
})

describe('a connection to a broker with several nodes', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  /** Accepts connections and never says a word, as a node that hangs. */
  let silent: Server
  const sockets = new Set<Socket>()

  before(async () => {
    vhost = await testVhost()
    silent = createServer((socket) => sockets.add(socket))
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  })
  after(async () => {
    for (const socket of sockets) socket.destroy()
    silent?.close()
    await vhost?.remove()
  })

  const at = (port: number): string => {
    const url = new URL(vhost.url)
    url.port = String(port)
    return url.href
  }
  const silentPort = (): number => (silent.address() as { port: number }).port

  it('is opened to the one that works, wherever it is in the list, and again after it was lost', async () => {
    const url = [at(1), vhost.url, at(silentPort())]
    const connection = await openConnection({ url, ...SHOWN, logger, waitMs: 10_000 })
    const before = connection.openSince
    const channel = await connection.openChannel()
    channel.on('error', () => {})
    dropConnection(channel as never, new Error('cut'))
    await poll(async () => (connection.openSince !== before && connection.openSince) || undefined, {
      deadlineMs: 15_000,
      failure: () => 'it was not opened again',
    })
    await connection.close()
  })

  it('names all nodes when none can be reached within the deadline', async () => {
    const url = [at(1), at(2), at(silentPort())]
    const error = await failure(openConnection({ url, ...SHOWN, logger, waitMs: 6_000 }))
    expect(error.code).to.equal('broker_unavailable')
    for (const port of [1, 2, silentPort()]) expect(error.message).to.include(`127.0.0.1:${port}`)
  })
})
