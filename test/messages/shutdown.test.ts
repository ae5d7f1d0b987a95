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
  let handlers: Promise<void>

  beforeEach(() => {
    calls.length = 0
    alarm.clear(false)
    model = new ScriptedConnection()
    ended = new AbortController()
    handlers = Promise.resolve()
    model.on('blocked', (reason: string) => alarm.raise(reason))
  })

  function parts(openSince: number | undefined = 1): BusParts {
    const called = (name: string) => async (): Promise<void> => {
      calls.push(name)
    }
    const scripted = {
      connection: { model, alarm, openSince, close: called('connection') },
      publishing: { current: {}, close: called('channel') },
      publisher: { drain: called('drain'), close: called('publisher') },
      requests: { close: called('requests') },
      consumers: {
        close: async () => {
          calls.push('consumers')
          await handlers
        },
      },
      ended,
    }
    return scripted as unknown as BusParts
  }

  it('waits for handlers, then for confirms, then closes the channel and the connection', async () => {
    await shutDown(parts())
    expect(calls).to.deep.equal(['consumers', 'drain', 'requests', 'publisher', 'channel', 'connection'])
    expect(ended.signal.aborted).to.equal(true)
  })

  it('waits for no confirms without a connection', async () => {
    const closing = { ...parts(), connection: { ...parts().connection, openSince: undefined } }
    await shutDown(closing)
    expect(calls).not.to.include('drain')
  })

  it('waits for nothing while RabbitMQ takes no messages', async () => {
    alarm.raise('low on disk')
    await shutDown(parts())
    expect(calls).to.deep.equal(['requests', 'publisher', 'connection'])
  })

  it('stops waiting when RabbitMQ takes no messages any more', async () => {
    handlers = new Promise(() => {})
    const closing = shutDown(parts())
    await until(() => calls.includes('consumers'))
    model.emit('blocked', 'low on disk')
    await closing
    expect(calls).to.deep.equal(['consumers', 'requests', 'publisher', 'connection'])
    expect(model.listenerCount('blocked')).to.equal(1)
  })
})
