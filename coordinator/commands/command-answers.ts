/**
 * Which commands are the same command: those of one sender with one `message_id`, type and body. Every command that changes
 * something has one answer, which is kept with the change and given again.
 */
import { createHash } from 'node:crypto'
import type { CommandDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { commandEntry } from '../audit-entries.ts'
import type { CommandKey, NewAnswer, Store } from '../store/store.ts'

/**
 * The user of the sender's connection, which RabbitMQ checks; without one, what the sender says of itself. Different senders
 * may use the same `message_id`.
 */
export function commandKey({ userId, appId, messageId }: CommandDelivery): CommandKey {
  const sender = userId === undefined ? `application ${appId ?? ''}` : `user ${userId}`
  return { sender, messageId }
}

/** The answer to keep. */
export function answerOf(delivery: CommandDelivery, reply: object): NewAnswer {
  const { type, body } = delivery
  return {
    ...{ ...commandKey(delivery), type, bodyHash: bodyHash(body), reply },
    audit: commandEntry(delivery, reply),
  }
}

/**
 * The reply that this command got before; undefined when it is new.
 * @throws HowdahError `invalid_message` when its `message_id` belongs to another command
 */
export async function earlierReply(
  store: Pick<Store, 'answer'>,
  delivery: CommandDelivery,
): Promise<object | undefined> {
  const earlier = await store.answer(commandKey(delivery))
  if (!earlier) return undefined
  const { type, messageId } = delivery
  if (earlier.type !== '' && (earlier.type !== type || earlier.bodyHash !== bodyHash(delivery.body))) {
    const difference = earlier.type === type ? 'with another body' : `which was a ${earlier.type}`
    throw new HowdahError(
      'invalid_message',
      `the message_id "${messageId.slice(0, 64)}" was used for another command, ${difference}; a new command needs a message_id of its own, and nothing was done`,
      { field: 'message_id' },
    )
  }
  return earlier.reply
}

/** Of a body as its schema has read it; the order of its keys does not matter. */
function bodyHash(body: unknown): string {
  return createHash('sha256').update(JSON.stringify(body, sortedKeys)).digest('base64url')
}

function sortedKeys(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}
