/** `howdah watch`: follows the progress of one session, or the events of all. */
import { once } from 'node:events'
import type { Bus, EventDelivery } from '../../../messages/bus.ts'
import type { SessionView } from '../../../messages/values.ts'
import { type Context, printJson } from '../context.ts'
import { databaseText } from '../export-lines.ts'
import { followSession } from '../follow-session.ts'
import { formatClock, formatShare } from '../format.ts'
import {
  brokerOptions,
  type ClientOptions,
  clientEnvironment,
  clientFiles,
  jsonOption,
  sessionArgument,
} from '../options.ts'
import { resultLines } from '../published.ts'
import { resolveSession } from '../request.ts'
import { changesText } from '../session-lines.ts'
import { hasSettled } from '../session-progress.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'
import { waitForSession } from '../wait-for-session.ts'

export const watch = defineVerb<ClientOptions>({
  name: 'watch',
  summary: 'follow the progress of one session, or the events of all',
  description: [
    'With SESSION: shows its steps and exports until it is published with nothing in progress, closed, failed, ' +
      'or waiting for "howdah retry". Without: shows one line per event of every session and per damage found in ' +
      'a repository, until Ctrl-C.',
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
        'SESSION, the first and the last line have the type "session.show" and the complete session as body.',
    ),
    ...brokerOptions,
  ],
  exitStatus: [
    ['0', 'The session is published or closed, or Ctrl-C.'],
    ['1', 'The session failed, waits for "howdah retry", or cannot be followed.'],
    ['2', 'Wrong usage; nothing was done.'],
  ],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah watch main-x7', 'Follow one session.'],
    [`howdah watch --json | jq -c 'select(.type == "session.state")'`, 'State changes of all sessions.'],
  ],
  run: runWatch,
})

async function runWatch({ context, options, argument }: Call<ClientOptions>): Promise<number> {
  await using connection = await context.connect(options)
  const { bus } = connection
  const json = options.json === true
  if (argument === '') return await watchAll(context, bus, json)
  const session = await resolveSession(bus, argument, context.interrupted)
  if (json) return await watchJson(context, bus, session)
  const { view } = await waitForSession({
    context,
    bus,
    session,
    settled: isAtRest,
    json,
    timeout: undefined,
  })
  if (view === undefined || !isAtRest(view)) return 0
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

async function watchJson(context: Context, bus: Bus, session: string): Promise<number> {
  let isFirst = true
  const printView = (view: object) => printJson(context, documentOf(context, 'session.show', view))
  try {
    const view = await followSession({
      bus,
      session,
      settled: isAtRest,
      now: context.now,
      signal: context.interrupted,
      onView: (next) => {
        if (isFirst) printView(next)
        isFirst = false
      },
      onEvent: ({ type, body }) => printJson(context, documentOf(context, type, body)),
      onUnavailable: (why) =>
        context.stderr.line(
          `howdah watch: ${why === undefined ? 'the coordinator answers again' : `the coordinator does not answer: ${why.message}`}`,
        ),
    })
    printView(view)
    return exitStatus(view)
  } catch (error) {
    if (context.interrupted.aborted) return 0
    throw error
  }
}

/** Events for operators. `howdah agents` shows which agents are online. */
const ALL = ['session.#', 'repository.#']

async function watchAll(context: Context, bus: Bus, json: boolean): Promise<number> {
  const print = (delivery: EventDelivery): void => {
    if (json) printJson(context, documentOf(context, delivery.type, delivery.body))
    else context.stdout.line(eventLine(context, delivery))
  }
  const consumers = await Promise.all(ALL.map((pattern) => bus.watchEvents(pattern, print)))
  if (!json) context.stderr.line('Watching all sessions; Ctrl-C ends it.')
  if (!context.interrupted.aborted) await once(context.interrupted, 'abort')
  await Promise.all(consumers.map((consumer) => consumer.close()))
  return 0
}

function documentOf({ now }: Context, type: string, body: object): object {
  return { time: now().toISOString(), type, body }
}

/** One event as a line: time, session, what happened. */
export function eventLine({ stdout, now }: Pick<Context, 'stdout' | 'now'>, delivery: EventDelivery): string {
  const session = 'session' in delivery.body ? delivery.body.session : ''
  return `${stdout.style('dim', formatClock(now()))}  ${session.padEnd(16)}  ${eventText(delivery)}`
}

function eventText(delivery: EventDelivery): string {
  const stepOf = (body: { direction: string; step: string }) =>
    body.direction === 'undo' ? `undo ${body.step}` : body.step
  switch (delivery.type) {
    case 'session.state': {
      const { state, error, reason } = delivery.body
      return [state, error?.message ?? reason]
        .filter((part) => part !== undefined)
        .map(printable)
        .join(': ')
    }
    case 'session.step-started':
      return `${stepOf(delivery.body)} started`
    case 'session.step-progress': {
      const { bytesDone, bytesTotal, detail, databases = [] } = delivery.body
      const share = bytesDone === undefined ? '' : formatShare(bytesDone, bytesTotal ?? bytesDone)
      const running = databases
        .filter(({ status }) => status === 'running')
        .map((one) => `${printable(one.database)}: ${databaseText(one)}`)
      return [stepOf(delivery.body), share, printable(detail ?? ''), ...running]
        .filter((part) => part !== '')
        .join('  ')
    }
    case 'session.step-done':
      return `${stepOf(delivery.body)} done`
    case 'session.step-failed':
      return `${stepOf(delivery.body)} failed: ${printable(delivery.body.error.message)}`
    case 'session.usage': {
      const { fetchedBytes, totalBytes } = delivery.body.usage
      const changes = changesText(delivery.body)
      return `fetched ${formatShare(fetchedBytes, totalBytes)}${changes === undefined ? '' : `, changes ${changes}`}`
    }
    case 'session.changes': {
      const { changed, databases } = delivery.body.changes
      if (!changed) return 'nothing changed'
      return `changed${databases.length > 0 ? ` in ${databases.map(printable).join(', ')}` : ''}`
    }
    case 'session.findings':
      return delivery.body.warnings.map((warning) => `warning: ${printable(warning)}`).join('; ')
    case 'session.reachability': {
      const { reachable, failedReads, reason } = delivery.body
      if (reachable) return 'the mount server can be reached again'
      const failed = failedReads > 0 ? `, ${failedReads} reads failed` : ''
      return `the mount server cannot be reached${failed}${reason === undefined ? '' : `: ${printable(reason)}`}`
    }
    case 'session.warning':
      return `${delivery.body.level === 'cleared' ? '' : 'warning: '}${printable(delivery.body.message)}`
    case 'session.lost':
      return `lost its ${delivery.body.what}: ${printable(delivery.body.reason)}`
    case 'agent.online':
    case 'agent.offline':
      return `${delivery.body.kind} agent ${delivery.body.name} ${delivery.type.slice('agent.'.length)}`
    case 'repository.damage': {
      const { instance, backup, file, block, what } = delivery.body
      return `block ${block} of ${printable(file)} of ${printable(`${instance}/${backup}`)} is damaged: ${printable(what)}`
    }
    default:
      return delivery satisfies never
  }
}
