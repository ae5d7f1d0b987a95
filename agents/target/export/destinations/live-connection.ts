/** Connections of an export's programs to a live server: psql and pg_restore with its address and credential. */
import { join } from 'node:path'
import type { CredentialConfig } from '../../../../config/formats.ts'
import type { Destination as DestinationRequest } from '../../../../messages/exports.ts'
import type { SystemUser } from '../../postgres/specification.ts'
import { connectionString } from '../dump/names.ts'
import type { Programs, RunningProgram } from '../dump/programs.ts'
import { readPassword } from './credentials.ts'
import { writePassfile } from './passfile.ts'

export interface LiveConnection {
  /** Host and port, for messages. */
  readonly where: string
  /** Runs statements in a database, up to the first that fails. @returns the output */
  sql(database: string, statements: string): Promise<string>
  /** The single JSON value of a query. */
  json<T>(database: string, query: string): Promise<T>
  /** A psql that reads a script, and stops at the first statement that fails. */
  script(database: string): RunningProgram
  /** A pg_restore that reads an archive. */
  restore(database: string, args: readonly string[]): RunningProgram
}

export interface LiveConnectionOptions {
  readonly request: Extract<DestinationRequest, { type: 'postgres' }>
  readonly credential: CredentialConfig
  readonly user: SystemUser
  readonly programs: Programs
  readonly workDirectory: string
}

const CONNECT_DEADLINE_S = 20
/**
 * Overrides the settings of the role. Only parameters that every role may set and every version has; read-only defaults and
 * triggers of that server stay in effect.
 */
const LIVE_OPTIONS = [
  'client_min_messages=warning',
  'default_transaction_isolation=read\\ committed',
  ...['statement_timeout=0', 'lock_timeout=0', 'DateStyle=ISO', 'IntervalStyle=postgres'],
  ...['standard_conforming_strings=on', 'quote_all_identifiers=off'],
]
  .map((setting) => `-c ${setting}`)
  .join(' ')
const PSQL = ['-X', '-A', '-t', '-q', '-w', '-v', 'ON_ERROR_STOP=1', '-f', '-']
/** The database from which others are created and looked up. */
export const MAINTENANCE_DATABASE = 'postgres'

/** Writes the passfile. @throws HowdahError `configuration` */
export async function liveConnection(options: LiveConnectionOptions): Promise<LiveConnection> {
  const { request, credential, user, programs, workDirectory } = options
  const { host, port = 5432 } = request
  const role = request.user ?? credential.user ?? user.name
  const passfile = join(workDirectory, 'passfile')
  if (credential.passwordFile !== undefined) {
    const password = await readPassword(credential.passwordFile)
    await writePassfile(passfile, { host, port, user: role, password }, user)
  }
  const environment = {
    // Always set, even if the file does not exist, so that libpq does not use one in the home directory.
    PGPASSFILE: passfile,
    PGCONNECT_TIMEOUT: String(CONNECT_DEADLINE_S),
    PGAPPNAME: 'howdah export',
    PGOPTIONS: LIVE_OPTIONS,
    PGCLIENTENCODING: 'UTF8',
  }
  const connection = (dbname: string): string =>
    connectionString({
      host,
      port: String(port),
      user: role,
      dbname,
      sslmode: credential.sslMode,
      sslrootcert: credential.sslRootCertificate,
    })

  const sql = (database: string, statements: string): Promise<string> =>
    programs.run('psql', [...PSQL, '-d', connection(database)], { input: statements, environment })

  return {
    where: `${host}:${port}`,
    sql,
    async json<T>(database: string, query: string): Promise<T> {
      return JSON.parse(await sql(database, query)) as T
    },
    script: (database) => programs.start('psql', [...PSQL, '-d', connection(database)], { environment }),
    restore: (database, args) =>
      programs.start('pg_restore', ['--no-password', ...args, '-d', connection(database)], { environment }),
  }
}

/** Pipes the output of one program into another. @throws the error of the one that failed first */
export async function pipe(
  from: RunningProgram,
  to: RunningProgram,
  progress: (bytes: number) => void,
): Promise<void> {
  let bytes = 0
  from.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    progress(bytes)
  })
  from.stdout.pipe(to.stdin)
  to.stdout.resume()
  await awaitAll([from, to])
}

/** Waits for programs that depend on each other; if one fails the others are killed. @throws the error of the first */
export async function awaitAll(programs: readonly RunningProgram[]): Promise<void> {
  const failures: unknown[] = []
  await Promise.all(
    programs.map(({ done }) =>
      done.catch((error: unknown) => {
        failures.push(error)
        for (const program of programs) program.kill()
      }),
    ),
  )
  if (failures.length > 0) throw failures[0]
}
