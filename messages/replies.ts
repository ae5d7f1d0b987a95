/**
 * Answers to deliveries: the handler's reply, or the refusal of a message that breaks the contract. A coordinator answers
 * through the default exchange, an agent through `howdah.replies`, and both only where replies may go. A requester that
 * has gone away is not an error.
 */
import { randomUUID } from 'node:crypto'
import type { ConsumeMessage } from 'amqplib'
import type { Logger } from 'pino'
import type { z } from 'zod'
import type { Delivery } from './bus.ts'
import { AGENT_COMMANDS, COMMANDS, EVENTS } from './definitions.ts'
import { encodeBody, MAX_REPLY_BYTES, messageProperties } from './envelope.ts'
import { type ErrorBody, errorBody, HowdahError, withRetryable } from './errors.ts'
import type { Publishing } from './publishing.ts'
import { messageIdOf, typeOf } from './simple-client.ts'
import { isClientReplyAddress, isCoordinatorReplyAddress, REPLIES_EXCHANGE } from './topology.ts'
import { isUnsendable } from './unsendable.ts'

const TIMEOUT_MS = 30_000
/** AMQP 0-9-1: a routing key is a short string, of at most 255 bytes. */
const MAX_ROUTING_KEY = 255
const MAX_TYPE = 64
const MAX_TEXT = 500

export interface Replies {
  /**
   * Does nothing for a delivery without a `replyTo` where replies may go. A reply that is too large, or that does not match
   * its schema, is replaced by a refusal with `message_too_large` or `internal`. @throws HowdahError as `Publishing.publish`
   */
  reply(delivery: Delivery, body: object): Promise<void>
  /** The properties of the message are untrusted; it may not even have a type. @throws HowdahError as `Publishing.publish` */
  refuse(message: ConsumeMessage, error: ErrorBody): Promise<void>
}

interface Requester {
  readonly replyTo: string
  readonly type: string
  readonly correlationId: string | undefined
}

export interface ReplyPath {
  readonly exchange: string
  isAddress(replyTo: string): boolean
}

export const COORDINATOR_REPLIES: ReplyPath = { exchange: '', isAddress: isClientReplyAddress }
export const AGENT_REPLIES: ReplyPath = {
  exchange: REPLIES_EXCHANGE.name,
  isAddress: isCoordinatorReplyAddress,
}

export interface RepliesOptions {
  readonly appId: string
  readonly publishing: Pick<Publishing, 'publish'>
  readonly path: ReplyPath
  readonly logger: Logger
}

export function createReplies({ appId, publishing, path, logger }: RepliesOptions): Replies {
  async function answer(
    { replyTo, type, correlationId }: Requester,
    body: object,
    content: Buffer = Buffer.from(JSON.stringify(body)),
  ): Promise<void> {
    const published = publishing.publish({
      exchange: path.exchange,
      routingKey: replyTo,
      content,
      options: messageProperties({
        ...{ type: `${type}.reply`, body, messageId: randomUUID(), appId, correlationId },
      }),
      timeoutMs: TIMEOUT_MS,
    })
    await published.catch((error: unknown) => {
      if (!(error instanceof HowdahError) || error.code !== 'unroutable') throw error
      logger.warn({ err: error, type, correlationId }, 'nobody waits for an answer any more')
    })
  }

  return {
    async reply({ type, replyTo, correlationId, messageId }, body) {
      if (replyTo === undefined || !path.isAddress(replyTo)) return
      const requester = { replyTo, type, correlationId: correlationId ?? messageId }
      try {
        const content = encodeBody(replySchema(type), `the reply to ${type}`, body, MAX_REPLY_BYTES)
        await answer(requester, body, content)
      } catch (error) {
        const instead = insteadOf(error)
        if (!instead) throw error
        logger.error(
          { err: error, type, messageId },
          'a reply cannot be sent, its requester gets an error instead',
        )
        await answer(requester, refusal(instead))
      }
    },

    async refuse(message, error) {
      const { properties } = message
      const replyTo: unknown = properties.replyTo
      if (typeof replyTo !== 'string' || replyTo.length > MAX_ROUTING_KEY || !path.isAddress(replyTo)) return
      const type = typeOf(message)
      const correlationId: unknown = properties.correlationId ?? messageIdOf(message)
      const requester = {
        replyTo,
        type: typeof type === 'string' ? type.slice(0, MAX_TYPE) : 'unknown',
        correlationId: typeof correlationId === 'string' ? correlationId : undefined,
      }
      await answer(requester, refusal(error))
    },
  }
}

const refusal = (error: ErrorBody): object => ({ accepted: false, error: withRetryable(error) })

/** What the requester is told about a reply that can never be sent; undefined when another attempt may succeed. */
function insteadOf(error: unknown): ErrorBody | undefined {
  if (error instanceof HowdahError && !isUnsendable(error)) return undefined
  const { code, message } = errorBody(error)
  return { code: code === 'message_too_large' ? code : 'internal', message: message.slice(0, MAX_TEXT) }
}

function replySchema(type: string): z.ZodType {
  // An event and a query to an agent may have the same name.
  for (const table of [COMMANDS, AGENT_COMMANDS, EVENTS]) {
    const definition = Object.entries(table).find(([name]) => name === type)?.[1]
    if (definition && 'reply' in definition) return definition.reply
  }
  throw new HowdahError('internal', `${type} has no reply`)
}
