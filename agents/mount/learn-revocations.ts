/** Whose certificates a mount agent refuses: learnt from the coordinator before it serves anybody, and kept up to date. */
import type { Logger } from 'pino'
import { type Backoff, backoffMs } from '../../messages/backoff.ts'
import type { Bus } from '../../messages/bus.ts'
import type { Revocations } from '../../messages/certified.ts'
import type { RevocationList } from '../../messages/enrolment.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import { pause } from '../../messages/wait.ts'

export interface KnownRevocations {
  /** Of the list that the coordinator sent last. */
  readonly version: number
  readonly revocations: Revocations
  /** Takes in another list. */
  add(list: RevocationList): void
}

const ASK_MS = 5_000
const RETRY: Backoff = { firstMs: 500, maxMs: 5_000 }

/**
 * Asks until the coordinator has answered: an agent that was revoked while this one was away must find no gap. Where no
 * coordinator ever had revocations there is nothing to learn.
 */
export async function learnRevocations(
  address: AgentAddress,
  bus: Pick<Bus, 'askCoordinator'>,
  logger: Logger,
): Promise<KnownRevocations> {
  const known = knownRevocations()
  for (let attempt = 1; ; attempt++) {
    try {
      const reply = await bus.askCoordinator(address, 'agent.revocations-wanted', address, {
        timeoutMs: ASK_MS,
      })
      if (!reply.accepted) throw HowdahError.of(reply.error)
      known.add(reply)
      return known
    } catch (error) {
      if (error instanceof HowdahError && error.code === 'unroutable') return known
      logger.warn(
        { reason: (error as Error).message },
        'no backup is served before the coordinator has said whose certificates are revoked; asking again',
      )
    }
    await pause(backoffMs(attempt, RETRY))
  }
}

/** Nobody was revoked. */
function knownRevocations(): KnownRevocations {
  const revocations = new Map<string, number>()
  let version = 0
  return {
    get version() {
      return version
    },
    revocations,
    add(list) {
      version = list.version
      // What a coordinator has forgotten, because its store was restored, stays revoked.
      for (const { user, before } of list.revoked) {
        revocations.set(user, Math.max(before, revocations.get(user) ?? 0))
      }
    },
  }
}
