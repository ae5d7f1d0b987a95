/** `howdah export`: exports databases or tables of a published instance and waits for the result. */
import type { SessionView } from '../../../messages/values.ts'
import { printJson, printJsonFailure } from '../context.ts'
import { exportError, exportLines, formatDestination } from '../export-lines.ts'
import { CREDENTIALS, type ExportOptions, exportOptions, exportRequest } from '../export-options.ts'
import { formatDuration } from '../format.ts'
import {
  brokerOptions,
  clientEnvironment,
  clientFiles,
  commandOptions,
  jsonOption,
  sessionArgument,
  type WaitingOptions,
  waitingExitStatus,
  waitOptions,
} from '../options.ts'
import { resolveSession, sendCommand, showSession } from '../request.ts'
import { errorLines } from '../session-lines.ts'
import { exportOf, hasEnded, isOver, latestSequence, needsRetry } from '../session-progress.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'
import { reportUnsettled, waitForSession } from '../wait-for-session.ts'

interface Options extends WaitingOptions, ExportOptions {}

export const exportVerb = defineVerb<Options>({
  name: 'export',
  summary: 'export databases or tables from a published instance',
  description: [
    'Exports databases or tables with the pg_dump of the instance: into files on the target server or, over ' +
      'SFTP, on another host, or straight into a running server. The instance stays usable. Each database is ' +
      'exported independently: one that fails is named, and the others continue. A manifest beside the files ' +
      'lists the rows of each table and the hash of each file.',
    'Waits and shows the progress of each database. Ctrl-C stops waiting, not the export; "howdah cancel" stops ' +
      'the export and removes what it wrote. An export that is requested while another one runs is queued.',
  ],
  arguments: [sessionArgument],
  options: [
    ...exportOptions('the databases that were changed since publishing'),
    ...waitOptions('the export continues'),
    ...commandOptions,
    jsonOption(
      'Print the export as one JSON document when it has ended: {"session", "id", "request", "status", "databases": ' +
        '[{"database", "status", "tables", "rows", "bytes", "path", "error"}, …], "manifest", "error"} (with --no-wait: ' +
        '{"accepted": true, "session": …, "export": …}); progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  sections: [['CREDENTIALS', CREDENTIALS]],
  exitStatus: [
    ['0', 'Everything was exported.'],
    ['1', 'At least one database or table was not exported; each is named with the reason.'],
    ...waitingExitStatus('the export continues').slice(2),
  ],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah export main-x7 --to /srv/rescue', 'Export every database that was changed.'],
    [
      'howdah export main-x7 --database app --table sales.orders --to ssh://dba@files-1/srv/rescue --credential files-1',
      'Export one table to another host.',
    ],
    [
      'howdah export main-x7 --database app --into postgres://app@db-1 --credential db-1 --rename app=app_yesterday',
      'Copy a database into the live server under another name.',
    ],
  ],
  run: runExport,
})

async function runExport({ context, options, argument, deadline, connect }: Call<Options>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  const request = exportRequest(options)
  await using connection = await connect()
  const { bus } = connection
  const session = await resolveSession(bus, argument, deadline)
  const before = await showSession(bus, session, deadline)
  const reply = await sendCommand(
    bus,
    'session.export',
    { session, ...request },
    {
      deadline,
      options,
    },
  )
  const { export: id } = reply
  if (!options.wait) {
    if (json) printJson(context, reply)
    else remarks.line(`export ${id} accepted; "howdah watch ${session}" follows it`)
    return 0
  }
  const place = printable(formatDestination(request.destination))
  remarks.line(`Exporting from session ${remarks.style('bold', session)} to ${place}, export ${id}`)
  const waiting = {
    ...{ context, bus, session, json, deadline },
    document: (view: SessionView | undefined) => ({ session, ...((view && exportOf(view, id)) ?? { id }) }),
  }
  const result = await waitForSession({
    ...waiting,
    settled: (view) => isOver(view) || needsRetry(view) || isEnded(view, id),
    exportId: id,
    steps: ['export'],
    since: latestSequence(before),
  })
  const { outcome, view } = result
  if (outcome !== 'settled' || view === undefined) {
    return reportUnsettled(waiting, result, 'export', `"howdah cancel ${session}" stops the export`)
  }
  const job = exportOf(view, id)
  const took = formatDuration(context.now().getTime() - started.getTime())
  if (job === undefined || !hasEnded(job)) {
    const error = view.error ?? {
      code: 'session_state' as const,
      message: `the session is ${view.state}, and export ${id} did not end`,
    }
    if (json) printJsonFailure(context, error, { session, ...(job ?? { id }) })
    remarks.line()
    remarks.line(`${remarks.style('red', 'Not exported')} after ${took}.`)
    for (const line of errorLines(remarks, error)) remarks.line(line)
    if (!isOver(view)) remarks.line(`  resume  howdah retry ${session}`)
    return 1
  }
  const error = exportError(job)
  if (json && error === undefined) printJson(context, { session, ...job })
  else if (json && error !== undefined) printJsonFailure(context, error, { session, ...job })
  for (const line of exportLines(remarks, job, took)) remarks.line(line)
  return error === undefined ? 0 : 1
}

function isEnded(view: SessionView, id: string): boolean {
  const job = exportOf(view, id)
  return job !== undefined && hasEnded(job)
}
