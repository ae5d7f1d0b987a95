/**
 * Commands in, answers out. Whether a command is accepted depends on what the coordinator knows; what only an agent can
 * know is checked by the session's first steps, before anything is mounted.
 *
 * Owns the answers: a command that changes something is carried out once per `message_id`, and its answer, a refusal
 * too, is kept and given again. What each command does is in `commands/`.
 */
import type { Logger } from 'pino'
import type { CommandDelivery, Outcome } from '../messages/bus.ts'
import { HowdahError } from '../messages/errors.ts'
import type { CommandContext, CommandHandlers } from './commands/command-handlers.ts'
import { publishCommands } from './commands/publish.ts'
import { queries } from './commands/queries.ts'
import { sessionCommands } from './commands/session-commands.ts'

export interface IntakeOptions extends CommandContext {
  readonly logger: Logger
}

/**
 * The handler for `Bus.consumeCommands`. Throws only what is not a refusal, such as a store that is away, for the bus to
 * redeliver.
 */
export function createIntake(options: IntakeOptions): (delivery: CommandDelivery) => Promise<Outcome> {
  const { store, bus, logger } = options
  const changing = { ...publishCommands(options), ...sessionCommands(options) }
  const handlers: CommandHandlers = { ...changing, ...queries(options) }

  /** A query is answered anew; a command that changes something as before when it comes again. */
  async function answerTo(delivery: CommandDelivery): Promise<object> {
    const { type, messageId } = delivery
    const keepsAnswer = Object.hasOwn(changing, type)
    const earlier = keepsAnswer ? await store.answer(messageId) : undefined
    if (earlier) return earlier
    try {
      return await handle(delivery)
    } catch (error) {
      if (!(error instanceof HowdahError)) throw error
      logger.info({ type, code: error.code, message: error.message }, 'refused a command')
      const reply = { accepted: false, error: error.toBody() }
      if (keepsAnswer) await store.saveAnswer({ messageId, reply })
      return reply
    }
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
