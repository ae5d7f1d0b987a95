/** PostgreSQL's programs, connected to the published instance as its superuser with Howdah's session settings. */

import { loginOptions } from '../../postgres/connections/client.ts'
import { APPLICATION, type InstanceAddress } from '../../postgres/connections/instance-client.ts'
import { sessionOptions } from '../../postgres/connections/session-settings.ts'
import { majorVersion } from '../../postgres/specification.ts'
import { connectionString } from '../dump/names.ts'
import type { Programs, RunningProgram } from '../dump/programs.ts'

/** `application_name` of their connections. */
export const EXPORT_APPLICATION = `${APPLICATION} export`

export interface InstancePrograms {
  /**
   * Starts pg_dump of a database. Text is written in `encoding`, that of the database, whatever role and database have set;
   * patterns without a schema are looked up in the search path of the database.
   */
  dump(
    database: string,
    encoding: string,
    args: readonly string[],
    onLine?: (line: string) => void,
  ): RunningProgram
  /** Starts psql in a database; its input is UTF-8. */
  psql(database: string, args: readonly string[]): RunningProgram
}

export function instancePrograms(programs: Programs, address: InstanceAddress): InstancePrograms {
  const { socketDirectory, port, user, instance } = address
  const version = majorVersion(instance.version)
  const login = loginOptions(address)
  const connection = (dbname: string): string =>
    connectionString({
      host: socketDirectory,
      port: String(port),
      user,
      dbname,
      application_name: EXPORT_APPLICATION,
    })
  return {
    dump(database, encoding, args, onLine) {
      const environment = { PGOPTIONS: sessionOptions(version, { ...login, searchPath: 'of the database' }) }
      const own = ['--no-password', `--encoding=${dumpEncoding(encoding, args)}`]
      const program = programs.start('pg_dump', [...own, ...args, '-d', connection(database)], {
        environment,
        onLine,
      })
      program.stdin.end()
      return program
    },
    psql(database, args) {
      const environment = { PGOPTIONS: sessionOptions(version, login), PGCLIENTENCODING: 'UTF8' }
      return programs.start('psql', ['-X', '-q', '-w', '-d', connection(database), ...args], { environment })
    },
  }
}

/** pg_dump expects its patterns, which are UTF-8, in its output encoding. SQL_ASCII means no conversion. */
function dumpEncoding(encoding: string, args: readonly string[]): string {
  const isAscii = args.every((arg) => Buffer.byteLength(arg) === arg.length)
  return isAscii || encoding === 'SQL_ASCII' ? encoding : 'UTF8'
}
