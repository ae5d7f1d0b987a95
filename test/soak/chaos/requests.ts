/** Owns the requests of a chaos user: each is repeated until it is answered, whatever fault delays the answer. */
import { randomUUID } from 'node:crypto'
import type { CommandBody, CommandReply, CommandType } from '../../../messages/definitions.ts'
import type { SessionView } from '../../../messages/values.ts'
import type { Fleet } from '../../support/fleet.ts'
import { poll } from '../../support/poll.ts'
import { Violation } from './judge.ts'

export interface Requests {
  /** Repeats the command until there is an answer; by the message id all are one command. */
  ask<T extends CommandType>(type: T, body: CommandBody<T>): Promise<CommandReply<T>>
  /** @throws Violation when the coordinator does not know the session */
  show(session: string): Promise<SessionView>
  retry(session: string): Promise<void>
  /** Waits for a view, and retries the session whenever it waits for that. @throws Violation when it fails or is stuck */
  until(session: string, seconds: number, wanted: (view: SessionView) => boolean): Promise<SessionView>
}

const ANSWER_MS = 90_000

export function createRequests({ bus }: Pick<Fleet, 'bus'>, onRetry: () => void): Requests {
  const ask: Requests['ask'] = async (type, body) => {
    const messageId = randomUUID()
    const deadline = Date.now() + ANSWER_MS
    for (;;) {
      try {
        return await bus.request(type, body, { messageId, timeoutMs: 10_000 })
      } catch (error) {
        if (Date.now() > deadline) throw error
      }
    }
  }

  const show: Requests['show'] = async (session) => {
    const reply = await ask('session.show', { session })
    if (!reply.accepted) throw new Violation(session, `it is not known any more: ${reply.error.message}`)
    return reply.session
  }

  const retry: Requests['retry'] = async (session) => {
    await ask('session.retry', { session })
    onRetry()
  }

  return {
    ask,
    show,
    retry,
    async until(session, seconds, wanted) {
      let state: SessionView['state'] | undefined
      return poll(
        async () => {
          const view = await show(session)
          state = view.state
          if (wanted(view)) return view
          if (view.awaitsRetry) await retry(session)
          if (view.state === 'failed') throw failed(view)
          return undefined
        },
        {
          deadlineMs: seconds * 1000,
          everyMs: 200,
          failure: () => new Violation(session, `it is stuck in the state ${state}`),
        },
      )
    },
  }
}

export function failed({ id, error }: SessionView): Violation {
  return new Violation(id, `it failed: ${JSON.stringify(error)}`)
}
