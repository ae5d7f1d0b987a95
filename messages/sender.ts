/**
 * Sends messages of the contract: validates the body, sets the properties, publishes with confirms, and for a request
 * waits for the reply. Owns no channel and no state; publishing and requests have both.
 */
import { randomUUID } from 'node:crypto'
import { type BrokerAlarm, brokerBlocked } from './broker-alarm.ts'
import type { SendOptions } from './bus.ts'
import { neededVersion } from './contract-version.ts'
import { encodeBody, messageProperties } from './envelope.ts'
import { HowdahError } from './errors.ts'
import type { Publishing } from './publishing.ts'
import type { Requests } from './requests.ts'
import type { RequestRoute, Route } from './route.ts'
import { DIRECT_REPLY } from './topology.ts'

const TIMEOUT_MS = 30_000
/** How long before the deadline of its reply a request must be confirmed, at most; for short deadlines a tenth. */
const CONFIRMED_BEFORE_MS = 500

export interface Sender {
  /** Resolves when RabbitMQ confirmed. @throws HowdahError `invalid_message` | `message_too_large`, and as `Publishing.publish` */
  send(route: Route, body: unknown, options?: SendOptions): Promise<void>
  /**
   * Resolves with the reply, validated.
   * @throws HowdahError as `send`; `broker_blocked` at once while an alarm is on, `timeout` without a reply
   */
  request(route: RequestRoute, body: unknown, options?: SendOptions): Promise<unknown>
}

export interface SenderOptions {
  readonly appId: string
  readonly publishing: Pick<Publishing, 'publish'>
  readonly requests: Requests
  readonly alarm: BrokerAlarm
  /** The queue on which agents reply, of a coordinator; everyone else has Direct Reply-to. */
  readonly agentReplies: string | undefined
  /** @throws HowdahError `unroutable` when it is known that there is no such exchange: publishing would close the channel */
  requireExchange(name: string): Promise<void>
}

export function createSender(options: SenderOptions): Sender {
  const { appId, publishing, requests, alarm, agentReplies, requireExchange } = options

  async function publish(
    { type, body: schema, maxBytes, exchange, routingKey, unroutable, expiresMs: usual }: Route,
    body: unknown,
    { messageId = randomUUID(), timeoutMs = TIMEOUT_MS, expiresMs = usual, signal }: SendOptions,
    reply: { readonly correlationId?: string; readonly replyTo?: string } = {},
  ): Promise<void> {
    const content = encodeBody(schema, type, body, maxBytes)
    await requireExchange(exchange)
    await publishing.publish({
      exchange,
      routingKey,
      content,
      options: messageProperties({
        ...{ type, body },
        version: neededVersion(type, body),
        messageId,
        appId,
        expiresMs,
        ...reply,
      }),
      ...(unroutable !== undefined && { unroutable }),
      timeoutMs,
      signal,
    })
  }

  function replyQueue(): string {
    if (agentReplies !== undefined) return agentReplies
    throw new HowdahError('internal', 'only a coordinator asks agents')
  }

  return {
    send: (route, body, options = {}) => publish(route, body, options),

    async request(route, body, { messageId = randomUUID(), timeoutMs = TIMEOUT_MS, signal } = {}) {
      if (alarm.reason !== undefined) throw brokerBlocked(alarm.reason, 'Nothing was sent.')
      return requests.ask({
        exchange: route.exchange,
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
              ...(route.expires && { expiresMs: timeoutMs }),
              signal: settled,
            },
            { correlationId, replyTo: route.repliesTo === 'coordinator' ? replyQueue() : DIRECT_REPLY },
          ),
      })
    },
  }
}
