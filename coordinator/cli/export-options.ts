/** The options of the verbs that export: what and where to. Passwords are refused; credentials are named. */
import type { Destination, ExportRequest } from '../../messages/exports.ts'
import { Destination as DestinationSchema, SqlName, TablePattern } from '../../messages/exports.ts'
import { parseName } from './options.ts'
import { InvalidValue, UsageError } from './usage-error.ts'
import type { Entry, OptionDescription } from './verb-description.ts'

export interface ExportOptions {
  readonly database: readonly string[]
  readonly table: readonly string[]
  readonly to?: Destination
  readonly into?: Destination
  readonly credential?: string
  readonly format?: 'directory' | 'custom' | 'plain'
  readonly jobs?: number
  readonly rename: readonly { readonly from: string; readonly to: string }[]
}

const FORMATS = ['directory', 'custom', 'plain'] as const

/** `databases`: what is exported without `--database`, as the help shows it. */
export function exportOptions(databases: string): readonly OptionDescription[] {
  return [
    {
      flags: '--database <D>',
      description: 'Database to export.',
      repeatable: true,
      defaultText: databases,
      parse: parseDatabase,
    },
    {
      flags: '--table <T>',
      description:
        'Table to export: orders, sales.orders, or a pattern of pg_dump like "sales.*"; applies to every exported ' +
        'database.',
      repeatable: true,
      defaultText: 'all tables',
      parse: parseTable,
    },
    {
      flags: '--to <PLACE>',
      description:
        'Write dump files to PLACE: an absolute path on the target server, like /srv/rescue, or on another host ' +
        'over SFTP, like ssh://user@host:22/srv/rescue.',
      secret: true,
      parse: parseTo,
    },
    {
      flags: '--into <URL>',
      description:
        'Restore into a running server: postgres://user@host:5432 restores each database under its own name; with ' +
        '/DATABASE, which must exist, into that database.',
      secret: true,
      parse: parseInto,
    },
    {
      flags: '--credential <NAME>',
      description:
        'Credential for ssh:// and postgres://: its name in the configuration of the target agent, which names the ' +
        'file of the key or password.',
      parse: parseName,
    },
    {
      flags: '--format <F>',
      description:
        'directory: pg_dump -Fd, in parallel. custom: one file per database. plain: SQL. Only with --to.',
      defaultText: 'directory',
      choices: ['directory', 'custom', 'plain'],
      parse: parseFormat,
    },
    {
      flags: '--jobs <N>',
      description: 'Number of tables to export in parallel.',
      defaultText: 'the number of processors of the target server',
      parse: parseJobs,
    },
    {
      flags: '--rename <FROM=TO>',
      description: 'Restore a database or table under another name. Only with --into.',
      repeatable: true,
      parse: parseRename,
    },
  ]
}

/** A section of the help of verbs that export. */
export const CREDENTIALS: readonly Entry[] = [
  [
    'howdah export S --into postgres://app@db-1 --credential db-1',
    'A password in a URL would be visible in the process list, in messages and in logs, and is refused. Store ' +
      'it in a file on the target server that only the agent can read, and name that file in the configuration of ' +
      'the agent (credentials).',
  ],
]

/** The request that the options describe together. @throws UsageError where they contradict each other */
export function exportRequest(options: ExportOptions): ExportRequest {
  const { to, into, credential, format, jobs, rename, database, table } = options
  const place = to ?? into
  if (place === undefined || (to !== undefined && into !== undefined)) {
    throw new UsageError('either --to PLACE or --into URL says where the export goes')
  }
  if (credential !== undefined && place.type === 'directory') {
    throw new UsageError(
      '--credential is for ssh:// and postgres://; a directory of the target server needs none',
    )
  }
  if (into !== undefined && format !== undefined) {
    throw new UsageError('--format is for --to; --into leaves no dump file')
  }
  if (into === undefined && rename.length > 0) {
    throw new UsageError('--rename is for --into; dump files keep the names')
  }
  const named = credential !== undefined && place.type !== 'directory' ? { ...place, credential } : place
  return {
    ...(database.length > 0 && { databases: [...database] }),
    ...(table.length > 0 && { tables: [...table] }),
    ...(format !== undefined && { format }),
    ...(jobs !== undefined && { jobs }),
    ...(rename.length > 0 && { rename: [...rename] }),
    destination: named,
  }
}

function parseTo(text: string): Destination {
  if (text.startsWith('/')) return checked({ type: 'directory', path: text })
  if (!/^(ssh|sftp):\/\//.test(text)) {
    throw new InvalidValue('an absolute path on the target server, or ssh://[user@]host[:port]/path')
  }
  const wanted = 'ssh://[user@]host[:port]/path'
  const { path, ...place } = placeOf(text, wanted)
  if (path.length < 2) throw new InvalidValue(`${wanted}, with a directory behind the host`)
  return checked({ type: 'sftp', ...place, path })
}

function parseInto(text: string): Destination {
  const wanted = 'postgres://[user@]host[:port][/database]'
  if (!/^postgres(ql)?:\/\//.test(text)) throw new InvalidValue(wanted)
  const { path, ...place } = placeOf(text, wanted)
  const database = path.slice(1)
  if (database.includes('/')) throw new InvalidValue(wanted)
  return checked({ type: 'postgres', ...place, ...(database !== '' && { database }) })
}

/** The parts of a URL without a password. @throws InvalidValue that does not repeat any of it */
function placeOf(text: string, wanted: string): { host: string; port?: number; user?: string; path: string } {
  // Other schemes than https are parsed by looser rules, in which a host may be empty or hold anything.
  const url = URL.parse(text.replace(/^\w+:/, 'https:'))
  if (url === null || url.hostname === '') throw new InvalidValue(wanted)
  if (url.password !== '' || /[?&]password=/i.test(url.search)) {
    throw new InvalidValue(
      `without a password: put it into a file of the target server, name it in the configuration of its agent ` +
        `(credentials), and give that name with --credential`,
    )
  }
  if (url.search !== '' || url.hash !== '') throw new InvalidValue(`${wanted}, with nothing behind it`)
  try {
    const user = decodeURIComponent(url.username)
    const port = portOf(text)
    return {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      ...(port !== undefined && { port }),
      ...(user !== '' && { user }),
      path: decodeURIComponent(url.pathname),
    }
  } catch {
    throw new InvalidValue(wanted)
  }
}

/** The port as it is written: a URL parser drops the default port of the scheme. */
function portOf(text: string): number | undefined {
  const written = /^\w+:\/\/[^/]*:(\d+)(?:\/|$)/.exec(text)?.[1]
  return written === undefined ? undefined : Number(written)
}

function checked(destination: Destination): Destination {
  const parsed = DestinationSchema.safeParse(destination)
  if (!parsed.success) throw new InvalidValue('a destination with a valid user, database and path')
  return parsed.data
}

function parseDatabase(text: string): string {
  if (!SqlName.safeParse(text).success) throw new InvalidValue('a name of at most 63 characters')
  return text
}

function parseTable(text: string): string {
  if (!TablePattern.safeParse(text).success)
    throw new InvalidValue('a name or pattern of at most 255 characters')
  return text
}

function parseFormat(text: string): (typeof FORMATS)[number] {
  const format = FORMATS.find((known) => known === text)
  if (format === undefined) throw new InvalidValue('directory, custom or plain')
  return format
}

function parseJobs(text: string): number {
  const jobs = Number(text)
  if (!/^\d+$/.test(text) || jobs < 1 || jobs > 64) throw new InvalidValue('a number from 1 to 64')
  return jobs
}

function parseRename(text: string): { from: string; to: string } {
  const equals = text.indexOf('=')
  const [from, to] = [text.slice(0, Math.max(0, equals)), text.slice(equals + 1)]
  if (from === '' || to === '') throw new InvalidValue('like app=app_yesterday')
  return { from: parseTable(from), to: parseTable(to) }
}
