/**
 * Answers the queries to an agent: a few at a time, some more wait, and further ones are refused at once. So checks that
 * take long never keep commands from being delivered.
 */
import type { AgentCommandDelivery, Outcome } from '../../messages/bus.ts'
import type { AgentCommandBody, AgentQueryType, AgentReply } from '../../messages/definitions.ts'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import { createSlots } from './slots.ts'

export type AgentQueries = {
  readonly [T in AgentQueryType]?: (body: AgentCommandBody<T>) => Promise<AgentReply<T>>
}

export type QueryDelivery = Extract<AgentCommandDelivery, { readonly type: AgentQueryType }>

export interface QueryAnswersOptions {
  readonly queries: AgentQueries
  readonly reply: (delivery: QueryDelivery, body: object) => Promise<void>
  /** Queries that are answered at the same time. */
  readonly concurrency?: number
  /** Queries that wait for their turn. */
  readonly waiting?: number
}

/** Queries and those that wait, altogether: what an agent must be delivered beyond these to be delivered commands. */
export const MAX_QUERIES = { concurrency: 8, waiting: 56 }

export function createQueryAnswers(options: QueryAnswersOptions): (query: QueryDelivery) => Promise<Outcome> {
  const { queries, reply, concurrency = MAX_QUERIES.concurrency, waiting = MAX_QUERIES.waiting } = options
  const slots = createSlots(concurrency)
  const never = new AbortController().signal
  let held = 0

  async function answerTo({ type, body }: QueryDelivery): Promise<object> {
    const answer = queries[type] as ((body: unknown) => Promise<object>) | undefined
    if (!answer) throw new HowdahError('unknown_message_type', `this agent does not answer ${type}`)
    if (held >= concurrency + waiting) {
      throw new HowdahError('agent_busy', `the agent has ${held} questions to answer already; try again`)
    }
    held += 1
    const release = await slots.acquire(never, () => undefined)
    try {
      return await answer(body)
    } finally {
      held -= 1
      release?.()
    }
  }

  return async (query) => {
    const answer = await answerTo(query).catch((error: unknown) => ({
      accepted: false as const,
      error: errorBody(error),
    }))
    await reply(query, answer)
    return 'ack'
  }
}
