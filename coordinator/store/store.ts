/**
 * The coordinator's persistent state: sessions, agents, and answers to commands. One contract for SQLite and PostgreSQL;
 * the same tests run against both. Every promise resolves when the change is durable.
 */
import type { AgentView, HistoryEntry } from '../../messages/values.ts'
import type { Session } from '../session.ts'

/** The answer to a command, kept under its `message_id` so that the same command gets the same answer again. */
export interface Answer {
  readonly messageId: string
  readonly reply: object
}

export interface Store {
  session(id: string): Promise<Session | undefined>
  /** Newest first. `settled`: includes those that are settled (`isSettled`). */
  sessions(options: { settled: boolean; limit?: number }): Promise<Session[]>
  /** Adds a session, its history and the answer to its command, all or none. False: that id or that answer exists already. */
  addSession(session: Session, history: readonly HistoryEntry[], answer: Answer): Promise<boolean>
  /**
   * Saves a session that was read at `session.version` with its new history entries, and increments the version. False:
   * it was saved by another in the meantime.
   */
  saveSession(session: Session, history: readonly HistoryEntry[]): Promise<boolean>
  /** The history of a session, oldest first; of a long one the newest `limit` entries. */
  history(id: string, limit: number): Promise<HistoryEntry[]>
  answer(messageId: string): Promise<object | undefined>
  /** Does nothing when there is an answer already: the first one stays. */
  saveAnswer(answer: Answer): Promise<void>
  agents(): Promise<AgentView[]>
  saveAgent(agent: AgentView): Promise<void>
  /** Deletes answers and settled sessions that are older than this. */
  prune(before: Date): Promise<void>
  close(): Promise<void>
}
