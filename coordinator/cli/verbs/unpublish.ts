/** `howdah unpublish`: ends a session and waits until nothing of it is left. */
import { printJson } from '../context.ts'
import { formatDuration } from '../format.ts'
import {
  brokerOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  parseSeconds,
} from '../options.ts'
import { ask, resolveSession } from '../request.ts'
import { errorLines, fieldLines } from '../session-lines.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'
import { unsettled, waitForSession } from '../wait-for-session.ts'

interface UnpublishOptions extends ClientOptions {
  readonly wait: boolean
  readonly timeout?: number
}

export const unpublish = defineVerb<UnpublishOptions>({
  name: 'unpublish',
  summary: 'stop a published instance and remove everything that belongs to its session',
  description: [
    'Stops PostgreSQL, unmounts, and removes the write cache with every change made since publishing. The backup ' +
      'is as it was. Waits until the session is closed. Works at any time, also while a session is being published.',
  ],
  argument: {
    name: 'SESSION',
    required: true,
    description: 'Session id, or the beginning of one that no other session has.',
  },
  options: [
    { flags: '--no-wait', description: 'Return as soon as the command is accepted.' },
    {
      flags: '--timeout <S>',
      description: 'Seconds after which waiting is given up with status 1; the session is still taken down.',
      defaultText: 'none',
      parse: parseSeconds,
    },
    jsonOption(
      'Print the session as one JSON document when it is closed (with --no-wait: {"accepted": true, "session": …}); ' +
        'progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  exitStatus: [...clientExitStatus, ['130', 'Ctrl-C while waiting; the session is still taken down.']],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [['howdah unpublish main-x7', 'The session whose id begins so.']],
  run: runUnpublish,
})

async function runUnpublish({ context, options, argument = '' }: Call<UnpublishOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  await using connection = await context.connect(options)
  const { bus } = connection
  const session = await resolveSession(bus, argument, context.interrupted)
  const reply = await ask(bus, 'session.unpublish', { session }, { signal: context.interrupted })
  if (!options.wait) {
    if (json) printJson(context, reply)
    else remarks.line(`session ${session} is being taken down; "howdah watch ${session}" follows it`)
    return 0
  }
  remarks.line(`Unpublishing session ${remarks.style('bold', session)}`)
  const result = await waitForSession({
    context,
    bus,
    session,
    settled: ({ state }) => state === 'closed' || state === 'failed',
    json,
    undoOnly: true,
    timeout: options.timeout,
  })
  const { view } = result
  if (result.outcome !== 'settled' || view === undefined) {
    const error = unsettled(result, session, options.timeout)
    if (json) printJson(context, view ?? { id: session, error: error.toBody() })
    context.stderr.line(`howdah unpublish: ${error.message}`)
    return result.outcome === 'interrupted' ? 130 : 1
  }
  if (json) printJson(context, view)
  const took = formatDuration(context.now().getTime() - started.getTime())
  if (view.state === 'closed') {
    remarks.line()
    remarks.line(`${remarks.style('green', 'Closed')} in ${took}.`)
    const undone = (view.undone ?? []).map(
      (text, index) => [index === 0 ? 'undone' : '', printable(text)] as const,
    )
    if (undone.length > 0) for (const line of fieldLines(remarks, undone)) remarks.line(line)
    return 0
  }
  remarks.line()
  remarks.line(`${remarks.style('red', 'Failed')} after ${took}.`)
  const error = view.error ?? { code: 'internal' as const, message: 'the session failed without a reason' }
  for (const line of errorLines(remarks, error, view.undone)) remarks.line(line)
  return 1
}
