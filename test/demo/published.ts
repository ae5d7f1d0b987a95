/** The published instance as a client sees it: psql with the connection that Howdah gave, as this user. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Connection } from '../../messages/values.ts'
import { POSTGRES_BIN } from '../support/postgres-cluster.ts'

const run = promisify(execFile)
const DEADLINE_MS = 120_000

export interface Published {
  /** The command line that connects. */
  readonly psqlLine: string
  /** Runs SQL; rows are lines, columns separated by `|`. @throws Error with psql's message */
  sql(text: string): Promise<string>
}

export function connectTo(connection: Connection, database: string, signal: AbortSignal): Published {
  const { host, port, user } = connection
  const where = ['-h', host, '-p', String(port), '-U', user, '-d', database]
  return {
    psqlLine: `psql ${where.join(' ')}`,
    async sql(text) {
      const args = ['-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', ...where, '-c', text]
      try {
        const { stdout } = await run(`${POSTGRES_BIN}/psql`, args, { timeout: DEADLINE_MS, signal })
        return stdout.trimEnd()
      } catch (error) {
        const said = (error as { stderr?: string }).stderr?.trim()
        throw new Error(`${said || (error as Error).message}, with the statement: ${text}`, { cause: error })
      }
    },
  }
}
