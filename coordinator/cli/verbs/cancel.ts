/** `howdah cancel`: stops an export, a publish or a rescue that is in progress. */
import type { SessionView } from '../../../messages/values.ts'
import { printJson } from '../context.ts'
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
import { fieldLines, undoneFields } from '../session-lines.ts'
import { exportOf, hasEnded, isOver, latestSequence } from '../session-progress.ts'
import { printAccepted } from '../until-published.ts'
import { type Call, defineVerb } from '../verb.ts'
import { reportUnsettled, waitForSession } from '../wait-for-session.ts'

export const cancel = defineVerb<WaitingOptions>({
  name: 'cancel',
  summary: 'stop an export, a publish or a rescue that is in progress',
  description: [
    'An export in progress is stopped and what it wrote is removed; the instance stays published. A publish or ' +
      'a rescue in progress is stopped and everything that it did is undone. Waits until that is done. To end a ' +
      'published session that has nothing in progress, use "howdah unpublish".',
  ],
  arguments: [sessionArgument],
  options: [
    ...waitOptions('the cancellation continues'),
    ...commandOptions,
    jsonOption(
      'Print the session as one JSON document when the cancellation is done (with --no-wait: {"accepted": true, "session": …}).',
    ),
    ...brokerOptions,
  ],
  exitStatus: waitingExitStatus('the cancellation continues'),
  environment: clientEnvironment,
  files: clientFiles,
  examples: [['howdah cancel main-x7', 'Stop what this session is doing.']],
  run: runCancel,
})

async function runCancel({
  context,
  options,
  argument,
  deadline,
  connect,
}: Call<WaitingOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  await using connection = await connect()
  const { bus } = connection
  const session = await resolveSession(bus, argument, deadline)
  const before = await showSession(bus, session, deadline)
  const reply = await sendCommand(
    bus,
    'session.cancel',
    { session },
    {
      deadline,
      options,
    },
  )
  if (!options.wait) return printAccepted(context, json, reply)
  const exportId = exportOf(before)?.id
  const isStopped = (view: SessionView) => {
    const job = exportId === undefined ? undefined : exportOf(view, exportId)
    // A rescue ends with its export, and then its session closes.
    return isOver(view) || (job !== undefined && hasEnded(job) && view.state !== 'unpublishing')
  }
  remarks.line(`Cancelling what is in progress in session ${remarks.style('bold', session)}`)
  const waiting = { context, bus, session, json, deadline, since: reply.after ?? latestSequence(before) }
  const result = await waitForSession({
    ...{ ...waiting, steps: [], settled: isStopped },
    ...(exportId !== undefined && { exportId }),
  })
  const { outcome, view } = result
  if (outcome !== 'settled' || view === undefined) {
    return reportUnsettled(waiting, result, 'cancel', 'and the cancellation continues')
  }
  if (json) printJson(context, view)
  const took = formatDuration(context.now().getTime() - started.getTime())
  const job = exportId === undefined ? undefined : exportOf(view, exportId)
  remarks.line()
  if (job !== undefined && !isOver(view)) {
    const isTooLate = job.status !== 'cancelled'
    remarks.line(
      `Export ${job.id} ${isTooLate ? `was already ${job.status}` : `is cancelled after ${took}`}.`,
    )
    return 0
  }
  remarks.line(`${remarks.style('green', 'Stopped')} in ${took}; nothing of the session remains.`)
  for (const line of fieldLines(remarks, undoneFields(view))) remarks.line(line)
  return 0
}
