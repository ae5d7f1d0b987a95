/** `howdah export`: exports databases or tables of a published instance, and waits until that is done. */
import type { SessionView } from '../../../messages/values.ts'
import { printJson } from '../context.ts'
import { exportLines, formatDestination } from '../export-lines.ts'
import { CREDENTIALS, type ExportOptions, exportOptions, exportRequest } from '../export-options.ts'
import { formatDuration } from '../format.ts'
import {
  brokerOptions,
  clientEnvironment,
  clientFiles,
  jsonOption,
  sessionArgument,
  type WaitingOptions,
  waitingExitStatus,
  waitOptions,
} from '../options.ts'
import { ask, resolveSession, showSession } from '../request.ts'
import { errorLines } from '../session-lines.ts'
import { exportOf, hasEnded, isOver, latestSequence, needsRetry } from '../session-progress.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'
import { reportUnsettled, waitForSession } from '../wait-for-session.ts'

interface Options extends WaitingOptions, ExportOptions {}

export const exportVerb = defineVerb<Options>({
  name: 'export',
  summary: 'export what was changed, or anything, from a published instance',
  description: [
    'Exports databases or tables with the pg_dump of the instance: into files on the target server or on a host that ' +
      'it reaches over SFTP, or straight into a running server. The instance goes on meanwhile. Each database is ' +
      'exported by itself: one that fails is named, and the others go on. Beside files lies a manifest with the rows ' +
      'of each table and the hash of each file.',
    'Waits, with the progress of each database. Ctrl-C stops the waiting, not the export; "howdah cancel" stops the ' +
      'export and removes what it wrote. An export that is asked for while another one goes on waits for its turn.',
  ],
  arguments: [sessionArgument],
  options: [
    ...exportOptions('those that were changed since they were published'),
    ...waitOptions('the export goes on'),
    jsonOption(
      'Print the export as one JSON document when it has ended: {"session", "id", "request", "status", "databases": ' +
        '[{"database", "status", "tables", "rows", "bytes", "path", "error"}, …], "manifest", "error"} (with --no-wait: ' +
        '{"accepted": true, "session": …, "export": …}); progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  sections: [['CREDENTIALS', CREDENTIALS]],
  exitStatus: [
    ['0', 'All was exported.'],
    ['1', 'A database or table was not, or nothing could be; each is named with the reason.'],
    ...waitingExitStatus('the export goes on').slice(2),
  ],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah export main-x7 --to /srv/rescue', 'Every database that was changed.'],
    [
      'howdah export main-x7 --database app --table sales.orders --to ssh://dba@files-1/srv/rescue --credential files-1',
      'One table, to another host.',
    ],
    [
      'howdah export main-x7 --database app --into postgres://app@db-1 --credential db-1 --rename app=app_yesterday',
      'A database into the live server, under another name.',
    ],
  ],
  run: runExport,
})

async function runExport({ context, options, argument }: Call<Options>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const { timeout } = options
  const remarks = json ? context.stderr : context.stdout
  const request = exportRequest(options)
  await using connection = await context.connect(options)
  const { bus } = connection
  const session = await resolveSession(bus, argument, context.interrupted)
  const before = await showSession(bus, session, context.interrupted)
  const reply = await ask(bus, 'session.export', { session, ...request }, { signal: context.interrupted })
  const { export: id } = reply
  if (!options.wait) {
    if (json) printJson(context, reply)
    else remarks.line(`export ${id} accepted; "howdah watch ${session}" follows it`)
    return 0
  }
  const place = printable(formatDestination(request.destination))
  remarks.line(`Exporting from session ${remarks.style('bold', session)} to ${place}, export ${id}`)
  const waiting = { context, bus, session, json, timeout }
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
    if (json) printJson(context, { session, ...(job ?? { id }), error })
    remarks.line()
    remarks.line(`${remarks.style('red', 'Not exported')} after ${took}.`)
    for (const line of errorLines(remarks, error)) remarks.line(line)
    if (!isOver(view)) remarks.line(`  go on  howdah retry ${session}`)
    return 1
  }
  if (json) printJson(context, { session, ...job })
  for (const line of exportLines(remarks, job, took)) remarks.line(line)
  return job.status === 'done' ? 0 : 1
}

function isEnded(view: SessionView, id: string): boolean {
  const job = exportOf(view, id)
  return job !== undefined && hasEnded(job)
}
