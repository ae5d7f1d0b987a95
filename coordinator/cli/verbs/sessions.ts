/** `howdah sessions`: a table of sessions. */

import { formatBytes } from '../../../messages/format-bytes.ts'
import { DEFAULT_PAGE, type SessionSummary, type TargetUsage } from '../../../messages/session-list.ts'
import type { AgentView } from '../../../messages/values.ts'
import { type Context, printJson } from '../context.ts'
import { count, formatAge, formatShare } from '../format.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
} from '../options.ts'
import { ask, listSessions } from '../request.ts'
import { type FilterOptions, filterOf, filterOptions } from '../session-filter.ts'
import { changesText, fieldLines, styledState } from '../session-lines.ts'
import { type Column, renderTable } from '../table.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'

interface SessionsOptions extends ClientOptions, FilterOptions {}

export const sessions = defineVerb<SessionsOptions>({
  name: 'sessions',
  summary: 'list the sessions, newest first',
  description: [
    'One line per session: state, instance, target, bytes fetched from the backup, size of the changes and ' +
      'their quota, and expiry. Closed and failed sessions are omitted unless --all or --in-state asks for them. ' +
      'When there are more than are shown, it says so.',
    'Then one line per target: the number of its sessions and the size of their write caches, with the limits ' +
      'of the target.',
  ],
  options: [
    ...filterOptions,
    jsonOption(
      'Print {"sessions": […], "more": …, "targets": [{"name", "online", "sessions", "cacheBytes", "limits"}, …]} as one JSON ' +
        'document; "more" says whether there are more than --limit.',
    ),
    ...askingOptions('a minute'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah sessions --all --since 2d', 'All sessions of the last two days.'],
    ['howdah sessions --label team=billing --in-state disrupted', 'What a team has to look at.'],
    [
      `howdah sessions --json | jq -r '.sessions[] | select(.state == "published") | .id'`,
      'The ids of published sessions, for a script.',
    ],
  ],
  run: runSessions,
})

async function runSessions({ context, options, deadline, connect }: Call<SessionsOptions>): Promise<number> {
  await using connection = await connect()
  const { bus } = connection
  const asking = deadline.asking()
  const { all, limit = all === true ? undefined : DEFAULT_PAGE } = options
  const [{ sessions: rows, more, targets: usage }, { agents }] = await Promise.all([
    listSessions(bus, filterOf(options, context.now()), asking, limit),
    ask(bus, 'agent.list', {}, asking),
  ])
  const targets = targetsOf(agents, usage)
  if (options.json === true) {
    printJson(context, { sessions: rows, more, targets })
    return 0
  }
  const { stdout } = context
  if (rows.length === 0) {
    stdout.line(all === true ? 'No sessions.' : 'No open sessions; --all shows closed ones.')
  } else {
    for (const line of sessionTable(context, rows)) stdout.line(line)
    if (more) stdout.line(`There are more; these are the newest ${rows.length}. --limit shows more of them.`)
  }
  const lines = fieldLines(
    stdout,
    targets.map((target) => [`target ${target.name}`, targetText(target)] as const),
  )
  if (lines.length > 0) stdout.line()
  for (const line of lines) stdout.line(line)
  return 0
}

/** A target, what its sessions use, and its limits. */
interface TargetRow {
  readonly name: string
  readonly online: boolean
  readonly sessions: number
  /** Write caches of its sessions together, as far as their sizes are known. */
  readonly cacheBytes: number
  readonly limits?: AgentView['limits']
}

function targetsOf(agents: readonly AgentView[], usage: readonly TargetUsage[]): TargetRow[] {
  const used = new Map(usage.map((one) => [one.target, one]))
  return agents
    .filter(({ kind }) => kind === 'target')
    .map(({ name, online, limits }) => {
      const { sessions = 0, cacheBytes = 0 } = used.get(name) ?? {}
      return { name, online, sessions, cacheBytes, ...(limits && { limits }) }
    })
}

function targetText({ online, sessions, cacheBytes, limits }: TargetRow): string {
  const { sessions: most = null, cacheBytes: room = null } = limits ?? {}
  return [
    most === null ? count(sessions, 'session') : `${sessions} of ${count(most, 'session')}`,
    `write caches ${room === null ? formatBytes(cacheBytes) : formatShare(cacheBytes, room)}`,
    ...(online ? [] : ['offline']),
  ].join(', ')
}

/** The state, with what an operator has to know about it. */
function stateText({ state, paused, awaitsRetry, keptCache }: SessionSummary): string {
  if (paused !== undefined && state === 'published') return 'paused'
  if (awaitsRetry === true) return `${state}, waits`
  return keptCache === true ? `${state}, kept` : state
}

function sessionTable(
  { stdout, now }: Pick<Context, 'stdout' | 'now'>,
  rows: readonly SessionSummary[],
): string[] {
  const columns: Column<SessionSummary>[] = [
    { title: 'SESSION', value: ({ id }) => id },
    {
      title: 'STATE',
      value: stateText,
      style: (text, { state }) => styledState(stdout, state, text),
    },
    { title: 'INSTANCE', value: (row) => printable(`${row.repository}/${row.instance}`), minimum: 12 },
    { title: 'BACKUP', value: ({ backup }) => printable(backup), minimum: 8, expendable: 5 },
    { title: 'TARGET', value: ({ target }) => target, minimum: 6, expendable: 2 },
    { title: 'PORT', value: ({ connection }) => String(connection?.port ?? ''), align: 'right' },
    {
      title: 'FETCHED',
      value: ({ usage }) => (usage === undefined ? '' : formatBytes(usage.fetchedBytes)),
      align: 'right',
      expendable: 3,
    },
    {
      title: 'CHANGES',
      value: (row) =>
        row.writeCache === undefined ? '' : (changesText(row) ?? formatBytes(row.writeCache.bytes)),
      align: 'right',
      expendable: 4,
    },
    {
      title: 'EXPIRES',
      value: ({ expiresAt }) => (expiresAt === undefined ? '' : formatAge(new Date(expiresAt), now())),
      align: 'right',
    },
    {
      title: 'CREATED',
      value: ({ createdAt }) => formatAge(new Date(createdAt), now()),
      align: 'right',
      expendable: 1,
    },
  ]
  return renderTable(stdout, columns, rows)
}
