/** What the handlers of commands have in common: their shape, and what they are given. */
import type { Bus, CommandDelivery } from '../../messages/bus.ts'
import type { CommandBody, CommandReply, CommandType } from '../../messages/definitions.ts'
import type { AgentRegistry } from '../agent-registry.ts'
import type { Clock } from '../clock.ts'
import type { Conductor } from '../conductor.ts'
import type { Enrolments } from '../enrolments.ts'
import type { Store } from '../store/store.ts'

/** One handler per command type. A refusal is thrown as a HowdahError; every other error is a failure of ours. */
export type CommandHandlers<Type extends CommandType = CommandType> = {
  readonly [T in Type]: (body: CommandBody<T>, delivery: CommandDelivery) => Promise<CommandReply<T>>
}

/** The answer to a command that makes or changes a session. */
export type SessionAccepted = { accepted: true; session: string }

export interface CommandContext {
  readonly store: Store
  readonly bus: Bus
  readonly registry: AgentRegistry
  readonly conductor: Pick<Conductor, 'add' | 'execute' | 'change' | 'announceRevocations'>
  readonly enrolments: Enrolments
  readonly now: Clock
  /** A new session id for an instance name. */
  readonly newSessionId: (instance: string) => string
}
