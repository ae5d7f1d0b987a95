import { expect } from 'chai'
import { pino } from 'pino'
import { createRecoveringChannel, type RecoveringChannel } from '../../messages/recovering-channel.ts'
import { failure } from './failure.ts'
import { replyError, ScriptedConnection, until } from './scripted-amqp.ts'

describe('a recovering channel', () => {
  let connection: ScriptedConnection
  let ended: AbortController
  let recovering: RecoveringChannel | undefined
  let opened: number

  beforeEach(() => {
    connection = new ScriptedConnection()
    ended = new AbortController()
    opened = 0
  })

  afterEach(() => recovering?.close())

  function create(): RecoveringChannel {
    recovering = createRecoveringChannel({
      connection: connection.asConnection,
      ended: ended.signal,
      purpose: 'consume q',
      logger: pino({ level: 'silent' }),
      setUp: async (channel) => {
        await channel.assertQueue('q')
      },
      onOpen: () => {
        opened += 1
      },
    })
    return recovering
  }

  it('is open when it is set up', async () => {
    const channel = create()
    expect(channel.current).to.equal(undefined)
    await channel.opened
    expect(channel.current).to.equal(connection.channels[0])
    expect(opened).to.equal(1)
  })

  it('is replaced by another one when RabbitMQ closes it', async () => {
    const channel = create()
    await channel.opened
    connection.channels[0]?.break(replyError(404))
    await until(() => opened === 2)
    expect(channel.current).to.equal(connection.channels[1])
    expect(connection.channels[1]?.calls).to.deep.equal(['queue q'])
  })

  it('retries a failed set-up on another channel', async () => {
    connection.onChannel = (channel) => {
      if (connection.channels.length === 1) channel.refusals.push(replyError(404))
    }
    await create().opened
    expect(connection.channels).to.have.length(2)
    expect(connection.channels[0]?.isClosed).to.equal(true)
  })

  it('reports a wrong configuration at once, and opens when it is corrected', async () => {
    connection.onChannel = (channel) => {
      if (connection.channels.length === 1) channel.refusals.push(replyError(406))
    }
    const channel = create()
    const error = await failure(channel.opened)
    expect(error.code).to.equal('configuration')
    expect(error.message).to.include('consume q')
    await until(() => channel.current !== undefined)
    expect(channel.failure).to.equal(undefined)
  })

  it('stays closed when it is closed, or when the bus has ended', async () => {
    const first = create()
    await first.opened
    await first.close()
    expect(first.current).to.equal(undefined)
    expect(connection.channels).to.have.length(1)
    ended.abort()
    expect((await failure(create().opened)).code).to.equal('broker_unavailable')
  })
})
