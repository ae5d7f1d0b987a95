/** `howdah sessions`: a table of sessions. */
import type { SessionView } from '../../../messages/definitions.ts'
import { type Context, printJson } from '../context.ts'
import { formatAge, formatBytes } from '../format.ts'
import {
  brokerOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
} from '../options.ts'
import { ask } from '../request.ts'
import { changesText, STATE_STYLE } from '../session-lines.ts'
import { type Column, renderTable } from '../table.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'

interface SessionsOptions extends ClientOptions {
  readonly all?: true
}

export const sessions = defineVerb<SessionsOptions>({
  name: 'sessions',
  summary: 'list the sessions, newest first',
  description: [
    'One line per session: its state, what it publishes, where, how much of the backup was fetched, and how much ' +
      'its changes take, of their quota where there is one. Closed and failed sessions are left out unless asked for.',
  ],
  options: [
    { flags: '--all', description: 'Closed and failed sessions too.' },
    jsonOption('Print {"sessions": […]} as one JSON document.'),
    ...brokerOptions,
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah sessions --all', 'Everything since the coordinator was set up.'],
    [
      `howdah sessions --json | jq -r '.sessions[] | select(.state == "published") | .id'`,
      'Ids in a script.',
    ],
  ],
  run: runSessions,
})

async function runSessions({ context, options }: Call<SessionsOptions>): Promise<number> {
  await using connection = await context.connect(options)
  const reply = await ask(
    connection.bus,
    'session.list',
    { ...(options.all === true && { all: true }) },
    { signal: context.interrupted },
  )
  if (options.json === true) {
    printJson(context, { sessions: reply.sessions })
  } else if (reply.sessions.length === 0) {
    context.stdout.line(options.all === true ? 'No sessions.' : 'No open sessions; --all shows closed ones.')
  } else {
    for (const line of sessionTable(context, reply.sessions)) context.stdout.line(line)
  }
  return 0
}

export function sessionTable(
  { stdout, now }: Pick<Context, 'stdout' | 'now'>,
  rows: readonly SessionView[],
): string[] {
  const columns: Column<SessionView>[] = [
    { title: 'SESSION', value: ({ id }) => id },
    {
      title: 'STATE',
      value: ({ state }) => state,
      style: (text, { state }) => stdout.style(STATE_STYLE[state], text),
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
      title: 'CREATED',
      value: ({ createdAt }) => formatAge(new Date(createdAt), now()),
      align: 'right',
      expendable: 1,
    },
  ]
  return renderTable(stdout, columns, rows)
}
