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
  roomText,
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
    'State, connection, bytes fetched against the size of the backup, changes against their quota, write cache, ' +
      'warnings, errors, when each step ran and how long it took, and when room ran out or came back.',
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
    ['howdah show main-x7 --json | jq .usage', 'Bytes fetched, in total, changed, of what quota, and free.'],
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
      ['changes', roomText(view)],
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
  if (view.steps.length > 0 || view.warningHistory !== undefined)
    lines.push('', ...timeline({ stdout, now }, view).map((line) => `  ${line}`))
  return lines
}

interface TimelineRow {
  readonly at: string
  readonly what: string
  readonly status: string
  readonly took: string
  readonly detail: string
}

function timeline({ stdout, now }: Pick<Context, 'stdout' | 'now'>, view: SessionView): string[] {
  const begun = Date.parse(view.createdAt)
  const steps = view.steps.map((report) => ({
    at: report.startedAt,
    what: report.direction === 'undo' ? `undo ${report.step}` : report.step,
    status: report.status,
    took: formatDuration(elapsedMs(report, now())),
    detail: stepDetail(report, () => undefined),
  }))
  const warnings = (view.warningHistory ?? []).map(({ at, about, level, message }) => {
    const detail = printable(message)
    return { at, what: about === 'quota' ? 'quota' : 'free space', status: level, took: '', detail }
  })
  const rows: TimelineRow[] = [...steps, ...warnings].sort((a, b) => Date.parse(a.at) - Date.parse(b.at))
  const terminal = { ...stdout, columns: stdout.columns - 2 }
  return renderTable(
    terminal,
    [
      { title: 'AT', value: ({ at }) => `+${formatDuration(Date.parse(at) - begun)}`, align: 'right' },
      { title: 'STEP', value: ({ what }) => what },
      {
        title: 'STATUS',
        value: ({ status }) => status,
        style: (text, { status }) =>
          status === 'failed' || status === 'critical' ? stdout.style('red', text) : text,
      },
      { title: 'TOOK', value: ({ took }) => took, align: 'right' },
      { title: 'DETAIL', value: ({ detail }) => detail, minimum: 10 },
    ],
    rows,
  )
}
