/** A session as a row of either store: its document, and the columns by which it is found. */
import { awaitedAgent, nextDue, saysAgentAway } from '../due.ts'
import { isSettled, type Session } from '../session.ts'
import { fromDocument, type SessionDocument, toDocument } from './session-document.ts'
import { storedJson, storedText } from './stored-json.ts'

export interface SessionRow {
  readonly id: string
  readonly version: number
  readonly settled: boolean
  readonly state: Session['state']
  readonly repository: string
  readonly instance: string
  readonly target: string
  readonly reference: string | null
  /** JSON; null: none. */
  readonly labels: string | null
  readonly mountAgent: string
  readonly createdAt: string
  readonly updatedAt: string
  /** Milliseconds since the epoch. */
  readonly nextDue: number | null
  /** The agent of the current step, as `agentKey`. */
  readonly agent: string | null
  /** Whether the session says that this agent is away. */
  readonly away: boolean
  readonly cacheBytes: number
  /** JSON. */
  readonly document: string
}

export function sessionRow(session: Session): SessionRow {
  const { id, version, state, request, mountAgent, reference, labels, createdAt, updatedAt, usage } = session
  return {
    ...{ id, version, settled: isSettled(session), state },
    ...{ repository: request.repository, instance: request.instance, target: request.target, mountAgent },
    reference: reference === undefined ? null : storedText(reference),
    labels: labels === undefined ? null : storedJson(labels),
    ...{ createdAt, updatedAt },
    nextDue: nextDue(session) ?? null,
    agent: awaitedAgent(session) ?? null,
    away: saysAgentAway(session),
    cacheBytes: usage?.cacheBytes ?? 0,
    document: storedJson(toDocument(session)),
  }
}

/** `document`: as it was stored, or parsed already. */
export function sessionOf(document: string | SessionDocument): Session {
  return fromDocument(typeof document === 'string' ? (JSON.parse(document) as SessionDocument) : document)
}
