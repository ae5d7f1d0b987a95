/** Owns the publishes of a client that asks until it is answered, and judges them: none is lost, and none is done twice. */
import { expect } from 'chai'
import type { Bus } from '../../messages/bus.ts'
import type { SessionView } from '../../messages/values.ts'
import type { InstantAgents } from './instant-agents.ts'
import { poll } from './poll.ts'

export interface Publishes {
  /** Asks again and again with the same message id, as a client does. @returns milliseconds until the answer */
  publish(): Promise<number>
  /** Each became one session, which was published by steps that each have a number of their own. */
  expectPublished(): Promise<void>
}

const ACCEPTED_MS = 45_000
const PUBLISHED_MS = 60_000
/** As long as nobody knows whether the agents are there. */
const NOT_YET = 'agent_offline'

export function createPublishes(client: Bus, agents: InstantAgents): Publishes {
  const accepted: string[] = []
  let sent = 0
  let judged = 0

  async function show(session: string): Promise<SessionView | undefined> {
    const reply = await client
      .request('session.show', { session }, { timeoutMs: 2_000 })
      .catch(() => undefined)
    return reply?.accepted ? reply.session : undefined
  }

  return {
    async publish() {
      sent += 1
      const body = { repository: 'main', instance: `shop${sent}`, target: 'db-7' }
      const messageId = `publish-${sent}`
      const started = Date.now()
      let last = ''
      const session = await poll(
        async () => {
          const reply = await client
            .request('instance.publish', body, { messageId, timeoutMs: 1_000 })
            .catch((error: Error) => {
              last = error.message
            })
          if (!reply || reply.accepted) return reply?.session
          last = reply.error.message
          if (reply.error.code !== NOT_YET) throw new Error(last)
          return undefined
        },
        { deadlineMs: ACCEPTED_MS, failure: () => `${messageId} is not accepted: ${last}` },
      )
      accepted.push(session)
      return Date.now() - started
    },

    async expectPublished() {
      for (const session of accepted.slice(judged)) {
        await poll(async () => ((await show(session))?.state === 'published' ? true : undefined), {
          deadlineMs: PUBLISHED_MS,
          failure: () => `${session} is not published`,
        })
        const own = agents.steps.filter((step) => step.startsWith(`${session}.`))
        const steps = ['resolve', 'preflight', 'mount', 'recover']
        expect(new Set(own)).to.deep.equal(
          new Set(steps.map((step, index) => `${session}.${index + 1} run ${step}`)),
        )
      }
      judged = accepted.length
      expect(new Set(accepted).size).to.equal(sent)
    },
  }
}
