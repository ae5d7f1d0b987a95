/** The exchanges and queues of the contract as channels of the AsyncAPI document. */
import { INTERNAL, PUBLIC, STABILITY } from './asyncapi-messages.ts'
import type { Json } from './asyncapi-schemas.ts'
import { EVENTS_EXCHANGE, type Exchange, type Queue } from './topology.ts'

/** The virtual host of the examples; any other will do. */
export const VIRTUAL_HOST = 'howdah'

export function channel(address: string, exchange: Exchange, description: string, types: string[]): Json {
  const { name, type } = exchange
  return {
    address,
    description,
    [STABILITY]: PUBLIC,
    messages: references(types),
    bindings: {
      amqp: {
        is: 'routingKey',
        exchange: { name, type, durable: true, autoDelete: false, vhost: VIRTUAL_HOST },
        bindingVersion: '0.3.0',
      },
    },
  }
}

export function sessionEventChannel(type: string, summary: string): Json {
  return {
    ...channel(`session.{session}.${type.slice('session.'.length)}`, EVENTS_EXCHANGE, summary, [type]),
    parameters: { session: { description: 'Id of the session.' } },
  }
}

export function queueChannel(queue: Queue, types: string[]): Json {
  return {
    address: queue.name,
    description: queue.summary,
    messages: references(types),
    bindings: {
      amqp: {
        is: 'queue',
        queue: { name: queue.name, durable: true, exclusive: false, autoDelete: false, vhost: VIRTUAL_HOST },
        bindingVersion: '0.3.0',
      },
    },
    [STABILITY]: INTERNAL,
    'x-arguments': queue.arguments,
    'x-bindings': queue.bindings.map(({ exchange, pattern }) => ({ exchange: exchange.name, pattern })),
  }
}

export function references(types: readonly string[]): Json {
  return Object.fromEntries(types.map((type) => [type, { $ref: `#/components/messages/${type}` }]))
}
