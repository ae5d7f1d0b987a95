/** `howdah watch`: follows the progress of one session, or the events of all. */
import type { Bus } from '../../../messages/bus.ts'
import type { ErrorBody } from '../../../messages/errors.ts'
import type { SessionView } from '../../../messages/values.ts'
import { printJson, printJsonFailure } from '../context.ts'
import { eventDocument } from '../event-line.ts'
import { followSession } from '../follow-session.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  sessionArgument,
} from '../options.ts'
import { resultLines } from '../published.ts'
import { resolveSession } from '../request.ts'
import { hasSettled } from '../session-progress.ts'
import { type Call, defineVerb } from '../verb.ts'
import { waitForSession } from '../wait-for-session.ts'
import { watchAll } from '../watch-all.ts'

export const watch = defineVerb<ClientOptions>({
  name: 'watch',
  summary: 'follow the progress of one session, or the events of all',
  description: [
    'With SESSION: shows its steps and exports until it is published with nothing in progress, closed, failed, ' +
      'or waiting for "howdah retry". Without: shows one line per event of every session, until Ctrl-C.',
    'When the connection to RabbitMQ was lost, events may have been missed: it says so, and shows the sessions that ' +
      'have changed meanwhile as the coordinator knows them.',
  ],
  arguments: [
    {
      ...sessionArgument,
      required: false,
      description: `${sessionArgument.description} Default: all sessions.`,
    },
  ],
  options: [
    jsonOption(
      'Print one JSON document per event and line, {"time", "type", "body"}, as in the message contract. With ' +
        'SESSION, the first and the last line have the type "session.show" and the complete session as body. ' +
        'After a reconnect there is one of the type "watch.missed", and then a "session.show" for each session ' +
        'that has changed. If it fails, the last line has "error".',
    ),
    ...askingOptions('none'),
  ],
  exitStatus: [
    ['0', 'The session is published or closed; without SESSION, --timeout is over.'],
    ['1', 'The session failed, waits for "howdah retry", cannot be followed, or --timeout is over.'],
    ...clientExitStatus.slice(2),
  ],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah watch main-x7', 'Follow one session.'],
    [`howdah watch --json | jq -c 'select(.type == "session.state")'`, 'State changes of all sessions.'],
  ],
  run: runWatch,
})

async function runWatch({
  context,
  options,
  argument,
  deadline,
  connect,
}: Call<ClientOptions>): Promise<number> {
  await using connection = await connect()
  const { bus } = connection
  const json = options.json === true
  if (argument === '') {
    await watchAll({ context, bus, json, deadline })
    return 0
  }
  const session = await resolveSession(bus, argument, deadline)
  if (json) return await watchJson({ context, deadline }, bus, session)
  const { outcome, view } = await waitForSession({ context, bus, session, settled: isAtRest, json, deadline })
  if (outcome !== 'settled' || view === undefined) throw deadline.signal.reason
  if (view.state === 'closed') context.stdout.line('Closed.')
  else for (const line of resultLines(context, view, undefined)) context.stdout.line(line)
  return exitStatus(view)
}

/** Nothing is in progress; a running export is waited for, too. */
function isAtRest(view: SessionView): boolean {
  return hasSettled(view) && view.state !== 'exporting'
}

function exitStatus({ state }: SessionView): number {
  return state === 'published' || state === 'closed' ? 0 : 1
}

async function watchJson(
  { context, deadline }: Pick<Call<ClientOptions>, 'context' | 'deadline'>,
  bus: Bus,
  session: string,
): Promise<number> {
  let isWanted = true
  const documentOf = (view: SessionView) => eventDocument(context, 'session.show', view)
  const view = await followSession({
    bus,
    session,
    settled: isAtRest,
    now: context.now,
    signal: deadline.signal,
    onView: () => {},
    onSnapshot: (next) => {
      if (isWanted) printJson(context, documentOf(next))
      isWanted = false
    },
    onEvent: ({ type, body }) => printJson(context, eventDocument(context, type, body)),
    onMissed: () => {
      isWanted = true
      printJson(context, eventDocument(context, 'watch.missed', { session }))
    },
    onUnavailable: (why) =>
      context.stderr.line(
        `howdah watch: ${why === undefined ? 'the coordinator answers again' : `the coordinator does not answer: ${why.message}`}`,
      ),
  })
  const status = exitStatus(view)
  if (status === 0) printJson(context, documentOf(view))
  else printJsonFailure(context, view.error ?? UNKNOWN, documentOf(view))
  return status
}

const UNKNOWN: ErrorBody = {
  code: 'session_state',
  message: 'the session is not published, and gives no reason',
}
