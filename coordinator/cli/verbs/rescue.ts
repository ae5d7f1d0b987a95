/** `howdah rescue`: publishes, exports and unpublishes in one command. */
import type { ErrorBody } from '../../../messages/errors.ts'
import type { SessionView } from '../../../messages/values.ts'
import { type Context, printJson, printJsonFailure } from '../context.ts'
import { exportError, exportLines, formatDestination } from '../export-lines.ts'
import { CREDENTIALS, type ExportOptions, exportOptions, exportRequest } from '../export-options.ts'
import { formatDuration } from '../format.ts'
import {
  brokerOptions,
  clientEnvironment,
  clientFiles,
  commandOptions,
  jsonOption,
  type WaitingOptions,
  waitingExitStatus,
  waitOptions,
} from '../options.ts'
import {
  expiresOption,
  instanceOptions,
  publishBody,
  type SourceOptions,
  sourceOptions,
} from '../publish-options.ts'
import { TIMES } from '../recovery-target.ts'
import { sendCommand } from '../request.ts'
import { errorLines } from '../session-lines.ts'
import { isOver } from '../session-progress.ts'
import { printable } from '../terminal.ts'
import { UsageError } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'
import { reportUnsettled, waitForSession } from '../wait-for-session.ts'

interface RescueOptions extends SourceOptions, WaitingOptions, ExportOptions {}

export const rescue = defineVerb<RescueOptions>({
  name: 'rescue',
  summary: 'publish, export tables or databases, and unpublish, in one command',
  description: [
    'Publishes the instance in the requested state, exports the requested tables or databases, and unpublishes ' +
      'it again, whether the export succeeded or not. Waits until only the exported data remains.',
    'Ctrl-C stops waiting, not the rescue; "howdah cancel" ends it and removes what it wrote. A rescue that ' +
      'cannot continue reports the reason and waits for "howdah retry" or "howdah cancel".',
  ],
  options: [
    ...sourceOptions,
    ...exportOptions('every database that has one of the tables'),
    ...instanceOptions.filter(({ flags }) => /^--(port|user|superuser|setting) /.test(flags)),
    expiresOption,
    ...waitOptions('the rescue continues'),
    ...commandOptions,
    jsonOption(
      'Print the session as one JSON document when it is closed; "exports" has the exported databases, in the form of "howdah export --json" ' +
        '(with --no-wait: {"accepted": true, "session": …, "recoverTo": …}); progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  sections: [
    ['TIMES', TIMES],
    ['CREDENTIALS', CREDENTIALS],
  ],
  exitStatus: [
    ['0', 'Everything was exported, and nothing else remains.'],
    [
      '1',
      'A database or table was not exported, or the instance could not be published; the reason is shown.',
    ],
    ...waitingExitStatus('the rescue continues').slice(2),
  ],
  environment: [...clientEnvironment, ['TZ', 'Time zone of times that are given without one.']],
  files: clientFiles,
  examples: [
    [
      "howdah rescue --repository prod --instance main --target local --recover-to 'time=2026-11-22 07:30:00+01' --database app --table sales.orders --to /srv/rescue",
      'Dump one table as it was at 07:30.',
    ],
    [
      'howdah rescue --repository prod --instance main --target db-7 --database app --table orders --into postgres://app@db-1 --credential db-1 --rename orders=orders_yesterday',
      'Restore a table into the live server, beside the present one.',
    ],
  ],
  run: runRescue,
})

async function runRescue({ context, options, deadline, connect }: Call<RescueOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  if (options.table.length === 0 && options.database.length === 0) {
    throw new UsageError('nothing to export. At least one --table T or --database D is needed', rescue)
  }
  const request = exportRequest(options)
  const body = { ...publishBody(options), export: request }
  if (options.recoverTo?.remark !== undefined) context.stderr.line(options.recoverTo.remark)
  await using connection = await connect()
  const { bus } = connection
  const reply = await sendCommand(bus, 'instance.publish', body, {
    deadline,
    usualMs: 120_000,
    options,
    onWaiting: ({ message }) => context.stderr.line(`howdah rescue: ${message}; asking again`),
  })
  const { session } = reply
  if (!options.wait) {
    if (json) printJson(context, { ...reply, recoverTo: body.recoverTo ?? { type: 'latest' } })
    else remarks.line(`session ${session} accepted; "howdah watch ${session}" follows it`)
    return 0
  }
  const what = `${options.instance} from ${options.repository} on ${options.target}`
  const place = printable(formatDestination(request.destination))
  remarks.line(`Rescuing from ${remarks.style('bold', what)} to ${place}, session ${session}`)
  const waiting = { context, bus, session, json, deadline }
  const result = await waitForSession({
    ...waiting,
    settled: isOver,
    exportId: 'e1',
    steps: ['resolve', 'preflight', 'mount', 'recover', 'export'],
  })
  const { outcome, view } = result
  if (outcome !== 'settled' || view === undefined) {
    return reportUnsettled(waiting, result, 'rescue', `"howdah cancel ${session}" ends it`)
  }
  const error = rescueError(view)
  if (json && error === undefined) printJson(context, view)
  else if (json && error !== undefined) printJsonFailure(context, error, view)
  const took = formatDuration(context.now().getTime() - started.getTime())
  for (const line of rescueLines(remarks, view, took)) remarks.line(line)
  return error === undefined ? 0 : 1
}

/** Why it was not rescued; undefined: it was, and nothing else remains. */
function rescueError(view: SessionView): ErrorBody | undefined {
  const failed = view.exports?.map(exportError).find((error) => error !== undefined)
  if (view.state === 'closed' && view.exports !== undefined && view.exports.length > 0) return failed
  return view.error ?? failed ?? CLOSED
}

const CLOSED: ErrorBody = {
  code: 'session_state',
  message: 'the session was closed before anything was exported',
}

function rescueLines(terminal: Context['stdout'], view: SessionView, took: string): string[] {
  const job = view.exports?.[0]
  const lines = job === undefined || job.databases.length === 0 ? [] : exportLines(terminal, job, took)
  if (view.state === 'closed' && lines.length > 0) return lines
  if (lines.length > 0 && job?.status === 'failed') return lines
  return [
    '',
    `${terminal.style('red', 'Not rescued')} after ${took}.`,
    ...errorLines(terminal, view.error ?? CLOSED, view.undone),
  ]
}
