/**
 * What the coordinator keeps: sessions, agents, and the answers it gave. One contract for SQLite and PostgreSQL; the
 * same tests run against both. Every promise resolves when the change is durable.
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
  /** Newest first. `settled`: those too of which nothing is left (`isSettled`). */
  sessions(options: { settled: boolean; limit?: number }): Promise<Session[]>
  /** Adds a session, its history and the answer to its command, all or none. False: that id or that answer exists already. */
  addSession(session: Session, history: readonly HistoryEntry[], answer: Answer): Promise<boolean>
  /**
   * Saves a session that was read at `session.version`, and raises it; what is new in its history goes with it. False:
   * somebody saved it meanwhile.
   */
  saveSession(session: Session, history: readonly HistoryEntry[]): Promise<boolean>
  /** What happened to a session, oldest first; of a long history the newest `limit` entries. */
  history(id: string, limit: number): Promise<HistoryEntry[]>
  answer(messageId: string): Promise<object | undefined>
  /** Keeps the first answer when there is one already. */
  saveAnswer(answer: Answer): Promise<void>
  agents(): Promise<AgentView[]>
  saveAgent(agent: AgentView): Promise<void>
  /** Forgets answers, and settled sessions, older than this. */
  prune(before: Date): Promise<void>
  close(): Promise<void>
}
