/** `howdah show`: everything about one session. */
import type { SessionView } from '../../../messages/values.ts'
import { type Context, printJson } from '../context.ts'
import { exportFields } from '../export-lines.ts'
import { formatTimeFully } from '../format.ts'
import { historyLines } from '../history-lines.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  sessionArgument,
} from '../options.ts'
import { describeRecoverTo } from '../recovery-target.ts'
import { resolveSession, showSession } from '../request.ts'
import {
  changedDatabases,
  errorLines,
  type Field,
  fetchedText,
  fieldLines,
  pausedText,
  psqlLine,
  reachedText,
  roomText,
  styledState,
  undoneFields,
  writeCacheText,
} from '../session-lines.ts'
import { isOver } from '../session-progress.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'

export const show = defineVerb<ClientOptions>({
  name: 'show',
  summary: 'show one session and its history',
  description: [
    'State, reference and labels, connection, bytes fetched and size of the backup, changes and their quota, write cache, expiry, ' +
      'exports, warnings and errors. If the session waits for a command, the command is shown. Below is the ' +
      'timeline: every command, step, state, disruption, warning and export, with the duration of each step. ' +
      'Times are shown in local time and in UTC.',
  ],
  arguments: [sessionArgument],
  options: [
    jsonOption('Print the session as one JSON document, with its complete history.'),
    ...askingOptions('a minute'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah show main-x7', 'The session whose id begins with main-x7.'],
    ['howdah show main-x7 --json | jq .usage', 'Fetched, total, changed, quota and free bytes.'],
    [
      `howdah show main-x7 --json | jq -c '.history[] | select(.type == "step" and .status == "done") | [.step, .milliseconds]'`,
      'The duration of each step.',
    ],
  ],
  run: runShow,
})

async function runShow({
  context,
  options,
  argument,
  deadline,
  connect,
}: Call<ClientOptions>): Promise<number> {
  await using connection = await connect()
  const id = await resolveSession(connection.bus, argument, deadline)
  const session = await showSession(connection.bus, id, deadline)
  if (options.json === true) printJson(context, session)
  else for (const line of sessionPage(context, session)) context.stdout.line(line)
  return 0
}

function sessionPage({ stdout, now }: Pick<Context, 'stdout' | 'now'>, view: SessionView): string[] {
  const time = (text: string | undefined) =>
    text === undefined ? undefined : formatTimeFully(new Date(text), now())
  const state = `${styledState(stdout, view.state)}${view.step === undefined ? '' : `, step ${view.step}`}`
  const { reachability } = view
  const lines = [
    stdout.style('bold', `Session ${view.id}`),
    ...fieldLines(stdout, [
      ['state', state],
      ...waitingFields(view, time),
      ['instance', printable(`${view.instance} in repository ${view.repository}`)],
      ['backup', printable(view.backup)],
      ['recover to', printable(describeRecoverTo(view.recoverTo))],
      ['holds', reachedText(view)],
      ['target', view.target],
      ['reference', view.reference === undefined ? undefined : printable(view.reference)],
      ...Object.entries(view.labels ?? {}).map(
        ([key, value]) => ['label', printable(`${key}=${value}`)] as const,
      ),
      ['created', time(view.createdAt)],
      ['changed', time(view.updatedAt)],
      ['expires', time(view.expiresAt)],
      ['connect', psqlLine(view), 'whole'],
      ['fetched', fetchedText(view)],
      [
        'mount server',
        reachability === undefined || reachability.reachable
          ? undefined
          : `cannot be reached since ${time(reachability.since)}; ${reachability.failedReads} reads failed` +
            `${reachability.reason === undefined ? '' : `: ${printable(reachability.reason)}`}`,
      ],
      ['changes', roomText(view)],
      ['changed in', changedText(view)],
      ['write cache', writeCacheText(view)],
      ['mount', view.mountPoint === undefined ? undefined : printable(view.mountPoint)],
      ...view.warnings.map((warning) => ['warning', printable(warning)] as const),
    ]),
  ]
  if (view.error !== undefined) lines.push('', ...errorLines(stdout, view.error, view.undone))
  else if (view.undone !== undefined && view.undone.length > 0) {
    lines.push('', ...fieldLines(stdout, undoneFields(view)))
  }
  for (const job of view.exports ?? []) {
    const head = `${stdout.style('bold', `Export ${job.id}`)}  ${job.status}, asked for ${time(job.requestedAt)}`
    lines.push('', head, ...fieldLines(stdout, exportFields(job)))
    if (job.error !== undefined) lines.push(...errorLines(stdout, job.error).map((line) => `  ${line}`))
  }
  const history = historyLines({ stdout, now }, view)
  if (history.length > 0) lines.push('', ...history)
  return lines
}

/** What the session waits for, and the command to use. */
function waitingFields(view: SessionView, time: (text: string) => string | undefined): Field[] {
  const { id, retryAt, awaitsRetry, keptCache } = view
  const paused = pausedText(view)
  return [
    ['paused', paused],
    ['promote', paused && `howdah promote ${id}`, 'whole'],
    ['advance', paused && `howdah advance ${id} --recover-to …`, 'whole'],
    ['waits', awaitsRetry === true ? `for "howdah retry ${id}"; it is not retried automatically` : undefined],
    ['next retry', retryAt === undefined ? undefined : time(retryAt)],
    ['kept', keptCache === true ? `its changes; "howdah retry ${id}" publishes them again` : undefined],
  ]
}

function changedText(view: SessionView): string | undefined {
  if (view.changes === undefined || isOver(view)) return undefined
  const { changed } = view.changes
  const names = changedDatabases(view.changes)
  if (names !== '') return names
  return changed ? 'unknown databases' : 'nothing that was not exported'
}
