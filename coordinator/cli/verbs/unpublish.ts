/** `howdah unpublish`: ends a session and waits until it is closed. */
import type { Bus } from '../../../messages/bus.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { printJson, printJsonFailure } from '../context.ts'
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
import { type Accepted, resolveSession, sendCommand, showSession } from '../request.ts'
import { errorLines, fieldLines, undoneFields } from '../session-lines.ts'
import { isOver, latestSequence } from '../session-progress.ts'
import { printable } from '../terminal.ts'
import { printAccepted } from '../until-published.ts'
import { type Call, defineVerb } from '../verb.ts'
import { reportUnsettled, waitForSession } from '../wait-for-session.ts'

interface UnpublishOptions extends WaitingOptions {
  readonly keepCache?: true
  readonly yes?: true
}

export const unpublish = defineVerb<UnpublishOptions>({
  name: 'unpublish',
  summary: 'stop a published instance and remove everything that belongs to its session',
  description: [
    'Stops PostgreSQL, unmounts the backup, and removes the write cache with every change made since ' +
      'publishing. The backup itself is unchanged. Waits until the session is closed. Works at any time: while ' +
      'the session is being published, while the mount server or other components are down, and with connected ' +
      'clients, which are disconnected.',
    'Changes that were not exported go with it. On a terminal it says where they are, and asks; without a terminal ' +
      'it refuses, and so it does while the target cannot say whether there are any. --yes discards them in either case.',
    'With --keep-cache the changes stay on the target, and "howdah retry" publishes the same backup with them ' +
      'again.',
  ],
  arguments: [sessionArgument],
  options: [
    { flags: '--keep-cache', description: 'Keep the changes, for "howdah retry".' },
    {
      flags: '--yes',
      description: 'Do not ask: discard changes that were not exported. For scripts.',
    },
    ...waitOptions('unpublishing continues'),
    ...commandOptions,
    jsonOption(
      'Print the session as one JSON document when it is closed (with --no-wait: {"accepted": true, "session": …}); ' +
        'progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  exitStatus: waitingExitStatus('unpublishing continues'),
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah unpublish main-x7', 'The session whose id begins with main-x7.'],
    ['howdah unpublish main-x7 --yes', 'In a script, whatever was changed.'],
    ['howdah unpublish main-x7 --keep-cache', 'Keep its changes for later.'],
  ],
  run: runUnpublish,
})

async function runUnpublish({
  context,
  options,
  argument,
  deadline,
  connect,
}: Call<UnpublishOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  await using connection = await connect()
  const { bus } = connection
  const session = await resolveSession(bus, argument, deadline)
  const before = await showSession(bus, session, deadline)
  const reply = await unpublishOrAsk({ context, options, deadline }, bus, session)
  if (!options.wait) return printAccepted(context, json, reply)
  remarks.line(`Unpublishing session ${remarks.style('bold', session)}`)
  const waiting = { context, bus, session, json, deadline }
  const result = await waitForSession({
    ...waiting,
    settled: isOver,
    steps: [],
    since: reply.after ?? latestSequence(before),
  })
  const { outcome, view } = result
  if (outcome !== 'settled' || view === undefined) {
    return reportUnsettled(waiting, result, 'unpublish', 'and unpublishing continues')
  }
  const error = view.error ?? { code: 'internal' as const, message: 'the session failed without a reason' }
  if (json && view.state === 'closed') printJson(context, view)
  else if (json) printJsonFailure(context, error, view)
  const took = formatDuration(context.now().getTime() - started.getTime())
  remarks.line()
  if (view.state === 'closed') {
    const kept = view.keptCache === true ? `howdah retry ${session}` : undefined
    remarks.line(
      `${remarks.style('green', 'Closed')} in ${took}${kept === undefined ? '' : '; its changes are kept'}.`,
    )
    for (const line of fieldLines(remarks, [...undoneFields(view), ['resume', kept]])) remarks.line(line)
    return 0
  }
  remarks.line(`${remarks.style('red', 'Failed')} after ${took}.`)
  for (const line of errorLines(remarks, error, view.undone)) remarks.line(line)
  return 1
}

/** Discards changes only with --yes, or when somebody at the terminal says so. @throws HowdahError `changes_unexported` */
async function unpublishOrAsk(
  { context, options, deadline }: Pick<Call<UnpublishOptions>, 'context' | 'options' | 'deadline'>,
  bus: Bus,
  session: string,
): Promise<Accepted<'session.unpublish'>> {
  const { keepCache = false, yes = false } = options
  const guard = keepCache ? { keepCache } : yes ? {} : { unlessChanged: true }
  try {
    return await sendCommand(bus, 'session.unpublish', { session, ...guard }, { deadline, options })
  } catch (error) {
    const { question } = context
    const isAsked = error instanceof HowdahError && error.code === 'changes_unexported'
    if (!isAsked || question === undefined) throw error
    context.stderr.line(`howdah unpublish: ${printable(error.message)}`)
    if (!(await question(`Unpublish ${session}, and discard what was changed in it?`))) {
      throw new HowdahError('cancelled', `the session "${session}" is as it was`)
    }
    // Another command, so it has an id of its own.
    const { messageId: _, ...confirmed } = options
    return await sendCommand(bus, 'session.unpublish', { session }, { deadline, options: confirmed })
  }
}
