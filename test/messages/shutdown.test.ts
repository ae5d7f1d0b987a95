import { expect } from 'chai'
import { createBrokerAlarm } from '../../messages/broker-alarm.ts'
import { type BusParts, shutDown } from '../../messages/shutdown.ts'
import { ScriptedConnection, until } from './scripted-amqp.ts'

describe('the end of a bus', () => {
  const calls: string[] = []
  const alarm = createBrokerAlarm()
  let model: ScriptedConnection
  let ended: AbortController
  /** Closing the consumers, which waits for their handlers. */
  let handlers: PromiseWithResolvers<void>

  beforeEach(() => {
    calls.length = 0
    alarm.clear(false)
    model = new ScriptedConnection()
    ended = new AbortController()
    handlers = Promise.withResolvers()
    model.on('blocked', (reason: string) => alarm.raise(reason))
  })

  function parts(isConnected = true): BusParts {
    const called = (name: string) => async (): Promise<void> => {
      calls.push(name)
    }
    const publish = {
      events: model,
      get openSince() {
        return isConnected && alarm.reason === undefined ? 1 : undefined
      },
    }
    const scripted = {
      connections: { publish, close: called('connections') },
      publishing: {
        drain: called('drain'),
        close() {
          calls.push('publishing')
          handlers.resolve() // those that wait for it
        },
      },
      requests: { close: called('requests') },
      consumers: {
        close: async () => {
          calls.push('consumers')
          await handlers.promise
        },
      },
      ended,
    }
    return scripted as unknown as BusParts
  }

  it('waits for handlers, then for confirms, then closes the connections', async () => {
    const closing = shutDown(parts())
    await until(() => calls.includes('consumers'))
    expect(calls).to.deep.equal(['consumers'])
    handlers.resolve()
    await closing
    expect(calls).to.deep.equal(['consumers', 'drain', 'requests', 'publishing', 'connections'])
    expect(ended.signal.aborted).to.equal(true)
  })

  it('abandons at once what waits for a broker that is away, so that handlers end', async () => {
    const began = Date.now()
    await shutDown(parts(false))
    expect(calls).to.deep.equal(['consumers', 'requests', 'publishing', 'connections'])
    expect(Date.now() - began).to.be.below(1_000)
  })

  it('abandons it also while RabbitMQ takes no messages', async () => {
    alarm.raise('low on disk')
    await shutDown(parts())
    expect(calls).to.deep.equal(['consumers', 'requests', 'publishing', 'connections'])
  })

  for (const event of ['blocked', 'disconnect']) {
    it(`stops waiting at the event "${event}"`, async () => {
      const closing = shutDown(parts())
      await until(() => calls.includes('consumers'))
      const listeners = model.listenerCount(event)
      model.emit(event, 'low on disk')
      await closing
      expect(calls).to.deep.equal(['consumers', 'requests', 'publishing', 'connections'])
      expect(model.listenerCount(event)).to.equal(listeners - 1)
    })
  }
})
