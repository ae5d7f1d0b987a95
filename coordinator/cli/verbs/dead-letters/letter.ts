/** What the actions on dead letters have in common: how a letter is shown, and which one is meant. */
import type { DeadLetter } from '../../../../messages/dead-letter-view.ts'
import { parseJson } from '../../../../messages/json.ts'
import { UsageError } from '../../usage-error.ts'
import type { ArgumentDescription, OptionDescription } from '../../verb-description.ts'

export const idArgument: ArgumentDescription = {
  name: 'ID',
  required: true,
  description: 'A dead letter, as "howdah dead-letters list" shows it.',
}

export const allOption: OptionDescription = {
  flags: '--all',
  description: 'All dead letters that are there now, in place of ID.',
}

/** @throws UsageError unless exactly one of them is given */
export function requireWhich(id: string, all: true | undefined): void {
  if ((id === '') === (all === undefined))
    throw new UsageError('name one dead letter by its ID, or all of them with --all')
}

/** As JSON shows it. */
export function letterDocument(letter: Omit<DeadLetter, 'content'>): object {
  const { id, reason, at, type, messageId, session, exchange, routingKey, queue } = letter
  const { user, application, reportedBy } = letter
  return {
    ...{ id, reason, at: at?.toISOString(), type, messageId, session },
    ...{ exchange, routingKey, queue, user, application, reportedBy },
  }
}

/** With headers and body: JSON as it is, anything else as text, or as base64 if it is none. */
export function wholeDocument(letter: DeadLetter): object {
  const { headers, content, originalBytes } = letter
  return { ...letterDocument(letter), headers, bytes: content.length, originalBytes, body: bodyOf(content) }
}

export function bodyOf(content: Buffer): unknown {
  const parsed = parseJson(content)
  if (parsed) return parsed.value
  const text = content.toString()
  return Buffer.from(text).equals(content) ? text : content.toString('base64')
}
