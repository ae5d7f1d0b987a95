/**
 * Commands in, answers out. Whether a command is accepted depends on what the coordinator knows; what only an agent can
 * know is checked by the session's first steps, before anything is mounted.
 *
 * Owns that a command which changes something is carried out once: its answer is kept with the change, and given again
 * when the same command comes again, which waits while the first is under way. What each command does is in `commands/`.
 */
import type { Logger } from 'pino'
import type { CommandDelivery, Outcome } from '../messages/bus.ts'
import { HowdahError } from '../messages/errors.ts'
import { isUnavailable } from '../messages/unavailable.ts'
import { commandEntry } from './audit-entries.ts'
import { adoptCommands } from './commands/adopt.ts'
import { answerOf, commandKey, earlierReply } from './commands/command-answers.ts'
import type { CommandContext, CommandHandlers } from './commands/command-handlers.ts'
import { enrolCommands } from './commands/enrol.ts'
import { forgetCommands } from './commands/forget.ts'
import { publishCommands } from './commands/publish.ts'
import { queries } from './commands/queries.ts'
import { sessionCommands } from './commands/session-commands.ts'
import { createLocks } from './locks.ts'

export interface IntakeOptions extends CommandContext {
  readonly logger: Logger
}

/**
 * The handler for `Bus.consumeCommands`. Throws only what is not a refusal, such as a store that is away, for the bus to
 * redeliver.
 */
export function createIntake(options: IntakeOptions): (delivery: CommandDelivery) => Promise<Outcome> {
  const { store, bus, logger } = options
  const changing = {
    ...publishCommands(options),
    ...sessionCommands(options),
    ...forgetCommands(options),
    ...enrolCommands(options),
    ...adoptCommands(options),
  }
  const handlers: CommandHandlers = { ...changing, ...queries(options) }
  const underWay = createLocks()

  function answerTo(delivery: CommandDelivery): Promise<object> {
    if (!Object.hasOwn(changing, delivery.type)) return answerQuery(delivery)
    return underWay.exclusive(JSON.stringify(commandKey(delivery)), () => answerOnce(delivery))
  }

  /** A query is answered anew each time. */
  async function answerQuery(delivery: CommandDelivery): Promise<object> {
    try {
      return await handle(delivery)
    } catch (error) {
      return refusal(delivery, error).reply
    }
  }

  /**
   * A refusal is the answer, too, unless a retry could mend it, or the message id belongs to another command. What is not
   * kept as an answer is entered into the audit stream by itself.
   */
  async function answerOnce(delivery: CommandDelivery): Promise<object> {
    let isNew = false
    try {
      const earlier = await earlierReply(store, delivery)
      if (earlier) return earlier
      isNew = true
      const reply = await handle(delivery)
      logger.info({ ...about(delivery), ...sessionOf(reply) }, 'carried out a command')
      return reply
    } catch (error) {
      const { reply, retryable } = refusal(delivery, error)
      if (!isNew || retryable) {
        await store.saveAuditEntry(commandEntry(delivery, reply))
        return reply
      }
      if (await store.saveAnswer(answerOf(delivery, reply))) return reply
      return (await earlierReply(store, delivery)) ?? reply
    }
  }

  /** @throws what is not a refusal */
  function refusal(delivery: CommandDelivery, error: unknown): { reply: object; retryable: boolean } {
    if (!(error instanceof HowdahError) || isUnavailable(error)) throw error
    logger.info({ ...about(delivery), code: error.code, reason: error.message }, 'refused a command')
    return { reply: { accepted: false, error: error.toBody() }, retryable: error.retryable }
  }

  /** The body of a delivery is of its type, which TypeScript does not follow through the table. */
  async function handle(delivery: CommandDelivery): Promise<object> {
    const handler = handlers[delivery.type] as (body: unknown, delivery: CommandDelivery) => Promise<object>
    return handler(delivery.body, delivery)
  }

  return async (delivery) => {
    await bus.reply(delivery, await answerTo(delivery))
    return 'ack'
  }
}

/** What identifies a command in the log. */
function about({ type, messageId, userId, body }: CommandDelivery): object {
  return { type, messageId, user: userId, ...sessionOf(body) }
}

function sessionOf(content: object): { session?: string } {
  const { session } = content as { session?: unknown }
  return typeof session === 'string' ? { session } : {}
}
