/** `howdah show`: everything about one session. */
import type { SessionView } from '../../../messages/definitions.ts'
import { type Context, printJson } from '../context.ts'
import { formatDuration, formatTimeFully } from '../format.ts'
import {
  brokerOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  formatRecoverTo,
  jsonOption,
} from '../options.ts'
import { ask, resolveSession } from '../request.ts'
import {
  elapsedMs,
  errorLines,
  fetchedText,
  fieldLines,
  psqlLine,
  STATE_STYLE,
  stepDetail,
  writeCacheText,
} from '../session-lines.ts'
import { renderTable } from '../table.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'

export const show = defineVerb<ClientOptions>({
  name: 'show',
  summary: 'show all about one session',
  description: [
    'State, connection, bytes fetched against the size of the backup, write cache, warnings, errors, and when each ' +
      'step ran and how long it took.',
  ],
  argument: {
    name: 'SESSION',
    required: true,
    description: 'Session id, or the beginning of one that no other session has.',
  },
  options: [jsonOption('Print the session as one JSON document.'), ...brokerOptions],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah show main-x7', 'The session whose id begins so.'],
    ['howdah show main-x7 --json | jq .usage', 'Bytes fetched, in total, and in the write cache.'],
  ],
  run: runShow,
})

async function runShow({ context, options, argument = '' }: Call<ClientOptions>): Promise<number> {
  await using connection = await context.connect(options)
  const id = await resolveSession(connection.bus, argument, context.interrupted)
  const { session } = await ask(
    connection.bus,
    'session.show',
    { session: id },
    { signal: context.interrupted },
  )
  if (options.json === true) printJson(context, session)
  else for (const line of sessionPage(context, session)) context.stdout.line(line)
  return 0
}

export function sessionPage({ stdout, now }: Pick<Context, 'stdout' | 'now'>, view: SessionView): string[] {
  const time = (text: string) => formatTimeFully(new Date(text), now())
  const state = `${stdout.style(STATE_STYLE[view.state], view.state)}${view.step === undefined ? '' : `, step ${view.step}`}`
  const lines = [
    stdout.style('bold', `Session ${view.id}`),
    ...fieldLines(stdout, [
      ['state', state],
      ['instance', printable(`${view.instance} in repository ${view.repository}`)],
      ['backup', printable(view.backup)],
      ['recover to', printable(formatRecoverTo(view.recoverTo))],
      ['target', view.target],
      ['created', time(view.createdAt)],
      ['changed', time(view.updatedAt)],
      ['connect', psqlLine(view), 'whole'],
      ['fetched', fetchedText(view)],
      ['write cache', writeCacheText(view)],
      ['mount', view.mountPoint === undefined ? undefined : printable(view.mountPoint)],
      ...view.warnings.map((warning) => ['warning', printable(warning)] as const),
    ]),
  ]
  if (view.error !== undefined) lines.push('', ...errorLines(stdout, view.error, view.undone))
  else if (view.undone !== undefined && view.undone.length > 0) {
    const undone = view.undone.map((text, index) => [index === 0 ? 'undone' : '', printable(text)] as const)
    lines.push('', ...fieldLines(stdout, undone))
  }
  if (view.steps.length > 0) lines.push('', ...timeline({ stdout, now }, view).map((line) => `  ${line}`))
  return lines
}

function timeline({ stdout, now }: Pick<Context, 'stdout' | 'now'>, view: SessionView): string[] {
  const begun = Date.parse(view.createdAt)
  const steps = view.steps.toSorted((a, b) => Date.parse(a.startedAt) - Date.parse(b.startedAt))
  const terminal = { ...stdout, columns: stdout.columns - 2 }
  return renderTable(
    terminal,
    [
      {
        title: 'AT',
        value: ({ startedAt }) => `+${formatDuration(Date.parse(startedAt) - begun)}`,
        align: 'right',
      },
      { title: 'STEP', value: ({ step, direction }) => (direction === 'undo' ? `undo ${step}` : step) },
      {
        title: 'STATUS',
        value: ({ status }) => status,
        style: (text, { status }) => (status === 'failed' ? stdout.style('red', text) : text),
      },
      { title: 'TOOK', value: (report) => formatDuration(elapsedMs(report, now())), align: 'right' },
      { title: 'DETAIL', value: (report) => stepDetail(report, () => undefined), minimum: 10 },
    ],
    steps,
  )
}
