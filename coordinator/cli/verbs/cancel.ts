/** `howdah cancel`: stops what is under way in a session. */
import type { SessionView } from '../../../messages/values.ts'
import { printJson } from '../context.ts'
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
import { fieldLines, undoneFields } from '../session-lines.ts'
import { exportOf, hasEnded, isOver, latestSequence } from '../session-progress.ts'
import { printAccepted } from '../until-published.ts'
import { type Call, defineVerb } from '../verb.ts'
import { reportUnsettled, waitForSession } from '../wait-for-session.ts'

export const cancel = defineVerb<WaitingOptions>({
  name: 'cancel',
  summary: 'stop what is under way: an export, or the publishing',
  description: [
    'An export that is under way is stopped, and what it wrote so far is removed; the instance stays published. A ' +
      'publishing that is under way is stopped at once, and all that it did so far is taken back, and so is a rescue. ' +
      'Waits until that is done. A session that is published, with nothing under way, is ended by "howdah unpublish".',
  ],
  arguments: [sessionArgument],
  options: [
    ...waitOptions('what is under way is still stopped'),
    jsonOption(
      'Print the session as one JSON document when it is done (with --no-wait: {"accepted": true, "session": …}).',
    ),
    ...brokerOptions,
  ],
  exitStatus: waitingExitStatus('what is under way is still stopped'),
  environment: clientEnvironment,
  files: clientFiles,
  examples: [['howdah cancel main-x7', 'Stop it.']],
  run: runCancel,
})

async function runCancel({ context, options, argument }: Call<WaitingOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const { timeout } = options
  const remarks = json ? context.stderr : context.stdout
  await using connection = await context.connect(options)
  const { bus } = connection
  const session = await resolveSession(bus, argument, context.interrupted)
  const before = await showSession(bus, session, context.interrupted)
  const reply = await ask(bus, 'session.cancel', { session }, { signal: context.interrupted })
  if (!options.wait) return printAccepted(context, json, reply)
  const exportId = exportOf(before)?.id
  const isStopped = (view: SessionView) => {
    const job = exportId === undefined ? undefined : exportOf(view, exportId)
    // An errand is over when its export is; its session goes, too.
    return isOver(view) || (job !== undefined && hasEnded(job) && view.state !== 'unpublishing')
  }
  remarks.line(`Cancelling what is under way in session ${remarks.style('bold', session)}`)
  const waiting = { context, bus, session, json, timeout, since: latestSequence(before) }
  const result = await waitForSession({
    ...{ ...waiting, steps: [], settled: isStopped },
    ...(exportId !== undefined && { exportId }),
  })
  const { outcome, view } = result
  if (outcome !== 'settled' || view === undefined) {
    return reportUnsettled(waiting, result, 'cancel', 'and it is still stopped')
  }
  if (json) printJson(context, view)
  const took = formatDuration(context.now().getTime() - started.getTime())
  const job = exportId === undefined ? undefined : exportOf(view, exportId)
  remarks.line()
  if (job !== undefined && !isOver(view)) {
    const isTooLate = job.status !== 'cancelled'
    remarks.line(
      `Export ${job.id} ${isTooLate ? `was ${job.status} already` : `is cancelled after ${took}`}.`,
    )
    return 0
  }
  remarks.line(`${remarks.style('green', 'Stopped')} in ${took}; nothing of the session is left.`)
  for (const line of fieldLines(remarks, undoneFields(view))) remarks.line(line)
  return 0
}
