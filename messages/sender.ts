/**
 * Sends messages of the contract: validates the body, sets the properties, publishes with confirms, and for a request
 * waits for the reply. Owns no channel and no state; the publisher and the requests have both.
 */
import { randomUUID } from 'node:crypto'
import { type BrokerAlarm, brokerBlocked } from './broker-alarm.ts'
import type { SendOptions } from './bus.ts'
import { encodeBody, messageProperties } from './envelope.ts'
import type { Publisher } from './publisher.ts'
import type { Requests } from './requests.ts'
import type { RequestRoute, Route } from './route.ts'

/** RabbitMQ delivers replies on the channel that published the request, without a queue of our own (Direct Reply-to). */
export const DIRECT_REPLY = 'amq.rabbitmq.reply-to'

const TIMEOUT_MS = 30_000
/** How long before the deadline of its reply a request must be confirmed, at most; for short deadlines a tenth. */
const CONFIRMED_BEFORE_MS = 500

export interface Sender {
  /** Resolves when RabbitMQ confirmed. @throws HowdahError `invalid_message` | `message_too_large`, and as `Publisher.publish` */
  send(route: Route, body: unknown, options?: SendOptions): Promise<void>
  /**
   * Resolves with the reply, validated.
   * @throws HowdahError as `send`; `broker_blocked` at once while an alarm is on, `timeout` without a reply
   */
  request(route: RequestRoute, body: unknown, options?: SendOptions): Promise<unknown>
}

export interface SenderOptions {
  readonly appId: string
  readonly publisher: Publisher
  readonly requests: Requests
  readonly alarm: BrokerAlarm
}

export function createSender({ appId, publisher, requests, alarm }: SenderOptions): Sender {
  async function publish(
    { type, body: schema, exchange, routingKey, unroutable }: Route,
    body: unknown,
    { messageId = randomUUID(), timeoutMs = TIMEOUT_MS, signal }: SendOptions,
    reply: { readonly correlationId?: string; readonly replyTo?: string } = {},
  ): Promise<void> {
    await publisher.publish({
      exchange,
      routingKey,
      content: encodeBody(schema, type, body),
      options: messageProperties({ type, messageId, appId, ...reply }),
      ...(unroutable !== undefined && { unroutable }),
      timeoutMs,
      signal,
    })
  }

  return {
    send: (route, body, options = {}) => publish(route, body, options),

    async request(route, body, { messageId = randomUUID(), timeoutMs = TIMEOUT_MS, signal } = {}) {
      if (alarm.reason !== undefined) throw brokerBlocked(alarm.reason, 'Nothing was sent.')
      return requests.ask({
        schema: route.reply,
        timeoutMs,
        unanswered: route.unanswered(timeoutMs / 1000),
        signal,
        send: (correlationId, settled) =>
          publish(
            route,
            body,
            // What RabbitMQ does not take is reported as that, and not as a coordinator or agent that does not answer.
            {
              messageId,
              timeoutMs: timeoutMs - Math.min(CONFIRMED_BEFORE_MS, timeoutMs / 10),
              signal: settled,
            },
            { correlationId, replyTo: DIRECT_REPLY },
          ),
      })
    },
  }
}
