/**
 * What follows from revocations, until it is done. Brings the list of revoked certificates to the mount agents: at once
 * when it changes, and to each one whose heartbeat tells of another version, until it has the latest.
 */
import type { Bus } from '../../messages/bus.ts'
import type { AgentView } from '../../messages/values.ts'
import type { AgentRegistry } from '../agent-registry.ts'
import type { Enrolments } from '../enrolments.ts'
import type { BackgroundWork } from './background-work.ts'

export interface RevocationSender {
  /** Sends the list to all mount agents. */
  announce(): void
  /** Sends it to a mount agent that goes by another one. */
  heard(agent: AgentView): void
  /** Tries again to remove the users of those who were revoked while that was not possible. */
  finish(): void
}

export interface RevocationSenderOptions {
  readonly bus: Pick<Bus, 'sendToAgent'>
  readonly registry: Pick<AgentRegistry, 'list'>
  readonly enrolments: Pick<Enrolments, 'revocations' | 'removeUsers'>
  readonly background: BackgroundWork
}

/** Until the next heartbeat says that it did not arrive. */
const EXPIRES_MS = 10_000

export function createRevocationSender(options: RevocationSenderOptions): RevocationSender {
  const { bus, registry, enrolments, background } = options
  let finishing = false

  /** Of a release that knows such a list. */
  const isConcerned = ({ kind, revocations }: AgentView): boolean =>
    kind === 'mount' && revocations !== undefined

  function send({ kind, name }: AgentView): void {
    const list = enrolments.revocations
    const sent = bus.sendToAgent({ kind, name }, 'agent.revocations', list, { expiresMs: EXPIRES_MS })
    background.track('sending the revocations', name, sent)
  }

  return {
    announce() {
      for (const agent of registry.list()) if (agent.online && isConcerned(agent)) send(agent)
    },
    heard(agent) {
      // A later version than ours is that of a store that was restored since.
      if (isConcerned(agent) && agent.revocations !== enrolments.revocations.version) send(agent)
    },
    finish() {
      if (finishing) return
      finishing = true
      const removed = enrolments.removeUsers().finally(() => {
        finishing = false
      })
      background.track('removing the users of revoked agents', '*', removed)
    },
  }
}
