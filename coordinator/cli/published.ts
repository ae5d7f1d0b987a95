/** Waits until a session is published and shows the result: the last part of every verb that publishes. */
import type { Bus } from '../../messages/bus.ts'
import type { ErrorBody } from '../../messages/errors.ts'
import type { SessionView, StepName } from '../../messages/values.ts'
import { type Context, printJson, printJsonFailure } from './context.ts'
import type { Deadline } from './deadline.ts'
import { formatDuration, formatTimeFully } from './format.ts'
import { describeRecoverTo } from './recovery-target.ts'
import {
  errorLines,
  type Field,
  fetchedText,
  fieldLines,
  pausedText,
  psqlLine,
  reachedText,
  writeCacheText,
} from './session-lines.ts'
import { hasSettled, latestSequence } from './session-progress.ts'
import { printable, wrap } from './terminal.ts'
import { reportUnsettled, waitForSession } from './wait-for-session.ts'

export interface AwaitPublished {
  readonly context: Context
  readonly bus: Bus
  readonly session: string
  /** Name of the verb, for messages. */
  readonly verb: string
  readonly json: boolean
  readonly deadline: Deadline
  /** When it was requested. */
  readonly started: Date
  /**
   * The session's latest step before the command. The wait ends only after a later step, because a session that was
   * published before looks as if the command were done.
   */
  readonly since?: number
  /** Steps up to this number are not shown. Default: `since`. */
  readonly shownSince?: number
  /** The steps to expect. Default: those of publishing. */
  readonly steps?: readonly StepName[]
}

/** @returns the exit status */
export async function awaitPublished(options: AwaitPublished): Promise<number> {
  const { context, json, since } = options
  const remarks = json ? context.stderr : context.stdout
  const settled = (view: SessionView) =>
    hasSettled(view) && (since === undefined || latestSequence(view) > since)
  const shownSince = options.shownSince ?? since ?? 0
  const result = await waitForSession({ ...options, settled, since: shownSince })
  const { outcome, view } = result
  if (outcome !== 'settled' || view === undefined) return reportUnsettled(options, result, options.verb)
  if (json && isPublished(view)) printJson(context, view)
  else if (json) printJsonFailure(context, view.error ?? CLOSED, view)
  const took = formatDuration(context.now().getTime() - options.started.getTime())
  for (const line of resultLines({ stdout: remarks, now: context.now }, view, took)) remarks.line(line)
  return isPublished(view) ? 0 : 1
}

function isPublished({ state }: SessionView): boolean {
  return state === 'published' || state === 'exporting'
}

/** The final output when a session has settled; `took`: the time since the request, if known. */
export function resultLines(
  { stdout: terminal, now }: Pick<Context, 'stdout' | 'now'>,
  view: SessionView,
  took: string | undefined,
): string[] {
  const close: Field = ['close', `howdah unpublish ${view.id}`]
  if (!isPublished(view)) {
    const isDisrupted = view.state === 'disrupted'
    const after = took === undefined ? '' : ` after ${took}`
    const head = isDisrupted ? terminal.style('yellow', 'Disrupted') : terminal.style('red', 'Not published')
    return [
      '',
      `${head}${after}${isDisrupted ? ', and is not retried automatically' : ''}.`,
      ...errorLines(terminal, view.error ?? CLOSED, view.undone),
      ...(isDisrupted ? fieldLines(terminal, [['resume', `howdah retry ${view.id}`], close]) : []),
    ]
  }
  const { paused, expiresAt } = view
  const head = `${terminal.style('green', 'Published')}${took === undefined ? '' : ` in ${took}`}`
  const what = `backup ${printable(view.backup)}, recovered to ${printable(describeRecoverTo(view.recoverTo))}`
  return [
    '',
    ...wrap(`${head}: ${what}.`, terminal.columns),
    ...fieldLines(terminal, [
      ['connect', psqlLine(view), 'whole'],
      ['holds', paused === undefined ? reachedText(view) : undefined],
      ['paused', pausedText(view)],
      ['promote', paused && `howdah promote ${view.id}`, 'whole'],
      ['advance', paused && `howdah advance ${view.id} --recover-to …`, 'whole'],
      ['fetched', fetchedText(view)],
      ['changes', writeCacheText(view)],
      ['expires', expiresAt === undefined ? undefined : formatTimeFully(new Date(expiresAt), now())],
      close,
      ...view.warnings.map((warning) => ['warning', printable(warning)] as const),
    ]),
  ]
}

const CLOSED: ErrorBody = {
  code: 'session_state',
  message: 'the session was closed while it was published',
}
