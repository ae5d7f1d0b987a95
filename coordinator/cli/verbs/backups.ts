/** `howdah backups`: what can be published. */

import { formatBytes } from '../../../messages/format-bytes.ts'
import type { BackupSummary, InstanceInventory, RepositoryInventory } from '../../../messages/values.ts'
import { type Context, printJson } from '../context.ts'
import { count, formatAge, formatMoment, formatTime, utcText } from '../format.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  parseName,
  parseRepositoryName,
} from '../options.ts'
import { ask } from '../request.ts'
import { errorLines, type Field, fieldLines } from '../session-lines.ts'
import { renderTable } from '../table.ts'
import { printable, wrap } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'

interface BackupsOptions extends ClientOptions {
  readonly repository?: string
  readonly instance?: string
}

export const backups = defineVerb<BackupsOptions>({
  name: 'backups',
  summary: 'list what can be published: repositories, instances, backups',
  description: [
    'Reads the inventory of every repository and shows one table of backups per instance, oldest first: label, ' +
      'type, end of the backup, size of the data directory, and PostgreSQL version. A backup that cannot be ' +
      'published is listed with the reason. Times are shown in local time and in UTC.',
    'Then it shows for each timeline the period to which the instance can be recovered: from the end of the ' +
      'first backup to the last commit in the archive. Where WAL is missing, the first missing segment is named; ' +
      'the next period begins with the next backup after the gap. The databases are listed if the backup names ' +
      'them.',
  ],
  options: [
    { flags: '--repository <R>', description: 'Show only this repository.', parse: parseName },
    { flags: '--instance <I>', description: 'Show only this instance.', parse: parseRepositoryName },
    jsonOption('Print {"repositories": […]} as one JSON document.'),
    ...askingOptions('two minutes'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah backups', 'All repositories.'],
    [
      `howdah backups --instance main --json | jq -r '.repositories[].instances[].backups[-1].label'`,
      'The label of the latest backup of an instance.',
    ],
  ],
  run: runBackups,
})

async function runBackups({ context, options, deadline, connect }: Call<BackupsOptions>): Promise<number> {
  await using connection = await connect()
  const { repository, instance } = options
  const reply = await ask(
    connection.bus,
    'inventory.list',
    { ...(repository !== undefined && { repository }), ...(instance !== undefined && { instance }) },
    { ...deadline.asking(120_000), tryMs: 60_000 },
  )
  if (options.json === true) printJson(context, { repositories: reply.repositories })
  else for (const line of inventoryLines(context, reply.repositories)) context.stdout.line(line)
  return 0
}

export function inventoryLines(
  context: Pick<Context, 'stdout' | 'now'>,
  repositories: readonly RepositoryInventory[],
): string[] {
  const { stdout } = context
  if (repositories.length === 0) return ['No mount agent serves a repository; see "howdah agents".']
  const lines: string[] = []
  for (const { repository, format, mountAgent, instances, error } of repositories) {
    if (lines.length > 0) lines.push('')
    const remark = stdout.style('dim', `${format}, mount agent ${mountAgent}`)
    lines.push(`${stdout.style('bold', `Repository ${repository}`)}  ${remark}`)
    if (error !== undefined) lines.push(...errorLines(stdout, error).map((line) => `  ${line}`))
    else if (instances.length === 0) lines.push('  No instances.')
    for (const found of instances) {
      const many = stdout.style('dim', count(found.backups.length, 'backup'))
      lines.push('', `  Instance ${stdout.style('bold', printable(found.instance))}  ${many}`)
      if (found.error !== undefined) lines.push(...errorLines(stdout, found.error).map((line) => `  ${line}`))
      if (found.backups.length > 0)
        lines.push(...backupTable(context, found.backups).map((line) => `  ${line}`))
      lines.push(...windowLines(stdout, found))
      for (const warning of found.warnings ?? []) lines.push(...remarkLines(stdout, warning))
    }
  }
  return lines
}

/** The periods to which an instance can be recovered, and its databases. */
function windowLines(
  stdout: Context['stdout'],
  { windows = [], databases = [], moreDatabases: more = 0 }: InstanceInventory,
): string[] {
  const terminal = { ...stdout, columns: stdout.columns - 2 }
  const fields = (shown: readonly Field[]) => fieldLines(terminal, shown).map((line) => `  ${line}`)
  const lines = windows.flatMap(({ timeline, from, to, fromLsn, toLsn, missingWal }) => {
    const end = to === undefined ? 'the end of its WAL' : `${formatMoment(new Date(to))}, the last commit`
    const gap = `after it the archive lacks ${printable(missingWal ?? '')}; nothing later on this timeline can be reached from these backups`
    return [
      `  Recoverable on timeline ${timeline}`,
      ...fields([
        ['from', `${formatMoment(new Date(from))}, LSN ${printable(fromLsn)}`],
        ['to', `${end}, LSN ${printable(toLsn)}`],
        ['gap', missingWal === undefined ? undefined : gap],
      ]),
    ]
  })
  if (databases.length > 0) {
    const names = `${databases.map(printable).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
    lines.push('  Databases', ...fields([['', names]]))
  }
  return lines
}

function backupTable(
  { stdout, now }: Pick<Context, 'stdout' | 'now'>,
  rows: readonly BackupSummary[],
): string[] {
  const terminal = { ...stdout, columns: stdout.columns - 2 }
  const hasUtcOffset = rows.some(
    ({ stoppedAt }) => stoppedAt !== undefined && new Date(stoppedAt).getTimezoneOffset() !== 0,
  )
  const isUsable = ({ unusable }: BackupSummary) => unusable === undefined
  const table = renderTable(
    terminal,
    [
      {
        title: 'LABEL',
        value: ({ label }) => printable(label),
        minimum: 16,
        style: (text, row) => (isUsable(row) ? text : stdout.style('dim', text)),
      },
      { title: 'TYPE', value: ({ type }) => type },
      {
        title: 'STOPPED AT',
        value: ({ stoppedAt }) => (stoppedAt === undefined ? '' : formatTime(new Date(stoppedAt))),
      },
      {
        title: 'UTC',
        value: ({ stoppedAt }) =>
          stoppedAt === undefined || !hasUtcOffset ? '' : utcText(new Date(stoppedAt)),
        expendable: 3,
      },
      {
        title: 'AGE',
        value: ({ stoppedAt }) =>
          stoppedAt === undefined ? '' : formatAge(new Date(stoppedAt), now()).replace(' ago', ''),
        align: 'right',
        expendable: 2,
      },
      {
        title: 'SIZE',
        value: ({ bytes }) => (bytes === undefined ? '' : formatBytes(bytes)),
        align: 'right',
        expendable: 1,
      },
      { title: 'PG', value: ({ postgresVersion }) => printable(postgresVersion), align: 'right' },
    ],
    rows,
  )
  const [header = '', ...body] = table
  return [
    header,
    ...body.flatMap((line, index) => {
      const { unusable, warnings = [] } = rows[index] ?? {}
      const remarks = unusable === undefined ? warnings : [unusable, ...warnings]
      return [line, ...remarks.flatMap((remark) => remarkLines(terminal, remark))]
    }),
  ]
}

function remarkLines(terminal: Context['stdout'], remark: string): string[] {
  const [first = '', ...rest] = wrap(printable(remark), Math.max(20, terminal.columns - 4))
  const mark = terminal.style('yellow', terminal.marks.warning)
  return [`  ${mark} ${first}`, ...rest.map((more) => `    ${more}`)]
}
