/**
 * The program of the store's thread: carries out requests on the SQLite file, in the order in which they come. Those that
 * wait are carried out together, with one write to the disk, and answered when that is done.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { openSqliteDatabase, type SqliteDatabase } from './sqlite-database.ts'
import { type Answered, failureOf, type Request, type ThreadData } from './sqlite-messages.ts'

/** Requests that are carried out together at most; the first of them waits for the last. */
const MOST_TOGETHER = 100

const { file, maxHistory } = workerData as ThreadData
const port = parentPort as MessagePort

try {
  const database = openSqliteDatabase(file, maxHistory)
  port.postMessage({ number: 0, value: database.id() } satisfies Answered)
  port.on('message', (first: Request) => {
    const requests = [first]
    while (requests.length < MOST_TOGETHER) {
      const next = receiveMessageOnPort(port) as { message: Request } | undefined
      if (next === undefined) break
      requests.push(next.message)
    }
    for (const answer of carryOut(database, requests)) port.postMessage(answer)
  })
} catch (error) {
  port.postMessage({ number: 0, failure: failureOf(error) } satisfies Answered)
  port.close()
}

function carryOut(database: SqliteDatabase, requests: readonly Request[]): Answered[] {
  const separately = requests.length === 1 || requests.some(({ method }) => method === 'close')
  if (separately) return requests.map((request) => answer(database, request))
  let answers: Answered[] = []
  try {
    database.together(() => {
      answers = requests.map((request) => answer(database, request))
    })
    return answers
  } catch (error) {
    // One that failed so that SQLite undid all of them is the reason, and not the commit that found nothing to commit.
    const failure = answers.find((one) => one.failure)?.failure ?? failureOf(error)
    return requests.map(({ number }) => ({ number, failure }))
  }
}

function answer(database: SqliteDatabase, { number, method, args }: Request): Answered {
  try {
    // The arguments are those of the method, which TypeScript does not follow through the table.
    const value = (database[method] as (...given: unknown[]) => unknown)(...args)
    return { number, value }
  } catch (error) {
    return { number, failure: failureOf(error) }
  }
}
