/**
 * The coordinator's persistent state: sessions, agents, and answers to commands. One contract for SQLite and PostgreSQL;
 * the same tests run against both. Every promise resolves when the change is durable.
 *
 * A method rejects with `Unavailable` while the store cannot be reached or takes no writes; the same call can succeed later.
 */
import type { AuditEntry } from '../../messages/audit.ts'
import type { AgentView, HistoryEntry, SessionState } from '../../messages/values.ts'
import type { Announcement } from '../announcements.ts'
import type { Session } from '../session.ts'
import type { SessionQuery } from './session-query.ts'

/** Entries of a session's history that are kept, the newest. */
export const MAX_HISTORY = 1000

/** Which command: a sender's own `message_id`. Two senders may use the same id. */
export interface CommandKey {
  readonly sender: string
  readonly messageId: string
}

/** The answer to a command, kept so that the same command gets the same answer again. */
export interface Answer extends CommandKey {
  /** Type and hash of the body tell whether a command with this key is the same command. Empty: kept by schema version 1. */
  readonly type: string
  readonly bodyHash: string
  /** The whole reply. */
  readonly reply: object
}

/** An answer that is new: with its entry in the audit stream, which is saved with it. */
export interface NewAnswer extends Answer {
  readonly audit: AuditEntry
}

/** An entry that waits for the audit stream. */
export interface WaitingAuditEntry {
  /** Grows with each entry. */
  readonly number: number
  readonly entry: AuditEntry
}

/** Limits of a target; null: none. */
export interface TargetLimits {
  readonly sessions: number | null
  /** Bytes of all its write caches. */
  readonly cacheBytes: number | null
}

/** What the sessions of a target take: those that are not closed, and the write caches, kept ones of closed sessions included. */
export interface TargetUsage {
  readonly sessions: number
  readonly cacheBytes: number
}

/** What was decided about the certificates of an agent. One that was never enrolled here has none. */
export interface Enrolment {
  readonly kind: AgentView['kind']
  readonly name: string
  /** Which enrolment of that name counts, from 1: what belongs to an earlier one is refused. */
  readonly enrolment: number
  /** DNS names and IP addresses by which it is reached. */
  readonly addresses: readonly string[]
  readonly revoked: boolean
  /** Whether the broker may still have the user of the enrolment before. */
  readonly userRemains: boolean
  /** Of a host that may join as this agent. */
  readonly invitation?: Invitation
}

export interface Invitation {
  readonly id: string
  readonly expiresAt: string
  /** What the enrolment will have, and whether it may be one after a revocation. */
  readonly addresses: readonly string[]
  readonly again: boolean
  /** SHA-256 of the public key that has joined; missing: nobody has. */
  readonly key?: string
  /** It was used, or withdrawn; the broker may still have its user. */
  readonly spent?: boolean
}

/** `answered`: the command has an answer already. Nothing was changed, unless `added`. */
export type Added =
  | { readonly outcome: 'added' | 'answered' | 'id-taken' }
  | { readonly outcome: 'full'; readonly usage: TargetUsage }

/** `stale`: another saved the session in the meantime. `answered`: the command has an answer already. Nothing was changed, unless `saved`. */
export type Saved = 'saved' | 'stale' | 'answered'

/** What is saved with a session, all or nothing. */
export interface WithSession {
  /** The new entries. */
  readonly history: readonly HistoryEntry[]
  /** The answer to the command that made the change, if one did. */
  readonly answer?: NewAnswer | undefined
  /** Events that tell of the change, kept until they are published (`announced`). */
  readonly announcements?: readonly Announcement[] | undefined
  /** Entries of the audit stream about the change, kept until they are in it (`audited`). */
  readonly audit?: readonly AuditEntry[] | undefined
}

export interface Store {
  /** Identifies this store, wherever it is moved. */
  readonly id: string
  /** Resolves when the store can be written to. @throws Unavailable */
  ping(): Promise<void>
  /** Ids of the turns of active coordinators that were saved last. */
  turns(): Promise<readonly string[]>
  saveTurns(turns: readonly string[]): Promise<void>
  session(id: string): Promise<Session | undefined>
  /** Newest first. */
  sessions(query: SessionQuery): Promise<Session[]>
  /** Of all targets with sessions that are not settled, by name. */
  targetUsage(): Promise<(TargetUsage & { readonly target: string })[]>
  /** How many sessions are not settled, by state. A state without any is missing. */
  sessionCounts(): Promise<Partial<Record<SessionState, number>>>
  /** Adds a session. `limits`: of its target, which are held against those that are in the store at that moment. */
  addSession(session: Session, more: WithSession, limits?: TargetLimits): Promise<Added>
  /** Saves a session that was read at `session.version`, and increments the version. */
  saveSession(session: Session, more: WithSession): Promise<Saved>
  /** Ids of the sessions whose time has come (`nextDue`), longest due first. `now`: milliseconds since the epoch. */
  dueSessions(now: number): Promise<string[]>
  /** Ids of the sessions with a step at an agent. */
  sessionsWithStep(): Promise<string[]>
  /** Of these, those whose agent is not among `online`, and that do not say so yet. Agents as `agentKey`. */
  sessionsLeftBy(online: readonly string[]): Promise<string[]>
  /** Of these, those that say that their agent is away although it is among `online`. */
  sessionsReturnedTo(online: readonly string[]): Promise<string[]>
  /** Ids of the sessions that are not settled and need this agent. */
  sessionsOf(agent: { kind: AgentView['kind']; name: string }): Promise<string[]>
  /** The history of a session, oldest first; of a long one the newest `limit` entries. */
  history(id: string, limit: number): Promise<HistoryEntry[]>
  /** Saved at this time or earlier, and not published yet: those of one session in their order. */
  announcements(savedBefore: Date): Promise<Announcement[]>
  /** Forgets them: they are published. */
  announced(announcements: readonly Announcement[]): Promise<void>
  answer(key: CommandKey): Promise<Answer | undefined>
  /** False: there is an answer already, and it stays. */
  saveAnswer(answer: NewAnswer): Promise<boolean>
  /** An entry that belongs to no change. */
  saveAuditEntry(entry: AuditEntry): Promise<void>
  /** The oldest of those that wait, in the order in which they were saved; at most `limit`. */
  auditEntries(limit: number): Promise<WaitingAuditEntry[]>
  /** Forgets them: they are in the stream. */
  audited(numbers: readonly number[]): Promise<void>
  agents(): Promise<AgentView[]>
  saveAgent(agent: AgentView): Promise<void>
  /** Removes an agent and keeps the answer to the command that says so. False: that has an answer already, and nothing was removed. */
  removeAgent(kind: AgentView['kind'], name: string, answer: NewAnswer): Promise<boolean>
  enrolments(): Promise<Enrolment[]>
  saveEnrolment(enrolment: Enrolment): Promise<void>
  /** Deletes answers and settled sessions that are older than this, and entries that wait so long for the audit stream. */
  prune(before: Date): Promise<{ readonly lostAuditEntries: number }>
  close(): Promise<void>
}
