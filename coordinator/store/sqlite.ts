/** The store in one SQLite file: nothing to install. The file is used in a thread of its own. One coordinator at a time. */
import { Worker } from 'node:worker_threads'
import { programBeside } from '../../config/program-beside.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { HistoryEntry } from '../../messages/values.ts'
import { announcementId } from '../announcements.ts'
import { announcementRow } from './announcement-row.ts'
import { pageStatement, SQLITE } from './session-query.ts'
import { sessionOf, sessionRow } from './session-row.ts'
import type { EntryRow, NewAnswerRow, RowsWithSession, SqliteDatabase } from './sqlite-database.ts'
import { type Answered, errorOf, type Request, type ThreadData } from './sqlite-messages.ts'
import { type CommandKey, MAX_HISTORY, type NewAnswer, type Store, type WithSession } from './store.ts'
import { storedJson, storedText } from './stored-json.ts'

/** @throws HowdahError `configuration` when the file cannot be opened, is no store, or belongs to a newer release */
export async function openSqliteStore(file: string): Promise<Store> {
  const thread = await startThread(file)
  const { call } = thread

  return {
    id: thread.storeId,
    ping: () => call('ping'),
    turns: async () => JSON.parse(await call('turns')),
    saveTurns: (turns) => call('saveTurns', JSON.stringify(turns)),
    async session(id) {
      const document = await call('session', id)
      return document === undefined ? undefined : sessionOf(document)
    },
    async sessions(query) {
      return (await call('sessions', pageStatement(query, SQLITE))).map(sessionOf)
    },
    targetUsage: () => call('targetUsage'),
    sessionCounts: () => call('sessionCounts'),
    addSession: (session, more, limits) => call('addSession', sessionRow(session), rowsOf(more), limits),
    async saveSession(session, more) {
      const row = sessionRow({ ...session, version: session.version + 1 })
      const saved = await call('saveSession', row, rowsOf(more))
      if (saved === 'saved') session.version = row.version
      return saved
    },
    dueSessions: (now) => call('dueSessions', now),
    sessionsWithStep: () => call('sessionsWithStep'),
    sessionsLeftBy: (online) => call('sessionsLeftBy', online),
    sessionsReturnedTo: (online) => call('sessionsReturnedTo', online),
    sessionsOf: ({ kind, name }) => call('sessionsOf', kind === 'target' ? 'target' : 'mount_agent', name),
    history: async (id, limit) => (await call('history', id, limit)).map((entry) => JSON.parse(entry)),
    announcements: async (savedBefore) =>
      (await call('announcements', savedBefore.toISOString())).map((one) => JSON.parse(one)),
    announced: (announcements) => call('announced', announcements.map(announcementId)),
    async answer(key) {
      const row = await call('answer', storedKey(key))
      return row && { ...row, reply: JSON.parse(row.reply) as object }
    },
    saveAnswer: (answer) => call('saveAnswer', answerRow(answer)),
    saveAuditEntry: (entry) => call('saveAuditEntry', storedJson(entry)),
    auditEntries: async (limit) =>
      (await call('auditEntries', limit)).map(({ number, document }) => ({
        ...{ number, entry: JSON.parse(document) },
      })),
    audited: (numbers) => call('audited', numbers),
    agents: async () => (await call('agents')).map((agent) => JSON.parse(agent)),
    saveAgent: (agent) => call('saveAgent', agent.kind, agent.name, storedJson(agent)),
    removeAgent: (kind, name, answer) => call('removeAgent', kind, name, answerRow(answer)),
    enrolments: async () => (await call('enrolments')).map((enrolment) => JSON.parse(enrolment)),
    saveEnrolment: (enrolment) =>
      call('saveEnrolment', enrolment.kind, enrolment.name, storedJson(enrolment)),
    async prune(before) {
      for (let lostAuditEntries = 0; ; ) {
        const { more, auditEntries } = await call('prune', before.toISOString())
        lostAuditEntries += auditEntries
        if (!more) return { lostAuditEntries }
      }
    },
    async close() {
      await call('close')
      await thread.end()
    },
  }
}

interface Thread {
  readonly storeId: string
  call<M extends Request['method']>(
    method: M,
    ...args: Parameters<SqliteDatabase[M]>
  ): Promise<ReturnType<SqliteDatabase[M]>>
  end(): Promise<void>
}

/** A thread that ends by itself is a defect, and ends the process. @throws HowdahError `configuration` */
async function startThread(file: string): Promise<Thread> {
  const pending = new Map<number, PromiseWithResolvers<never>>()
  const data: ThreadData = { file, maxHistory: MAX_HISTORY }
  const worker = new Worker(programBeside(import.meta.url, 'sqlite-thread'), { workerData: data })
  let last = -1
  const expect = (): Promise<never> => {
    last += 1
    const answered = Promise.withResolvers<never>()
    pending.set(last, answered)
    return answered.promise
  }
  const opened: Promise<string> = expect()
  const answers: Answered[] = []

  /** One answer in a turn of the event loop: what many requests lead to must not hold it up in one piece. */
  function settleNext(): void {
    const answer = answers.shift()
    if (answer === undefined) return
    if (answers.length > 0) setImmediate(settleNext)
    const { number, value, failure } = answer
    const waiting = pending.get(number)
    pending.delete(number)
    if (failure) waiting?.reject(errorOf(failure))
    else waiting?.resolve(value as never)
  }

  worker.on('message', (answer: Answered) => {
    if (answers.push(answer) === 1) setImmediate(settleNext)
  })
  try {
    return {
      storeId: await opened,
      call(method, ...args) {
        const answered = expect()
        worker.postMessage({ number: last, method, args } satisfies Request)
        return answered
      },
      async end() {
        await worker.terminate()
      },
    }
  } catch (error) {
    await worker.terminate()
    if (error instanceof HowdahError && error.code === 'configuration') throw error
    const why = (error as Error).message
    throw new HowdahError('configuration', `store.path: ${file} cannot be opened: ${why}`, { cause: error })
  }
}

function rowsOf({ history, answer, announcements = [], audit = [] }: WithSession): RowsWithSession {
  return {
    history: history.map(entryRow),
    answer: answer && answerRow(answer),
    announcements: announcements.map(announcementRow),
    audit: audit.map(storedJson),
  }
}

function entryRow(entry: HistoryEntry): EntryRow {
  return { number: entry.number, document: storedJson(entry) }
}

function storedKey({ sender, messageId }: CommandKey): CommandKey {
  return { sender: storedText(sender), messageId: storedText(messageId) }
}

function answerRow(answer: NewAnswer): NewAnswerRow {
  const { reply, audit } = answer
  return { ...answer, ...storedKey(answer), reply: storedJson(reply), audit: storedJson(audit) }
}
