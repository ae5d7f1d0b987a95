/** What verbs share that send one command for a session and wait until it is published. */
import type { Bus } from '../../messages/bus.ts'
import type { SessionView, StepName } from '../../messages/values.ts'
import { type Context, printJson } from './context.ts'
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
} from './options.ts'
import { awaitPublished } from './published.ts'
import { type CommandOptions, resolveSession, showSession } from './request.ts'
import { latestSequence } from './session-progress.ts'
import type { Call } from './verb.ts'
import type { VerbDescription } from './verb-description.ts'

/** The common part of their manual pages. */
export const untilPublished = {
  arguments: [sessionArgument],
  options: [
    ...waitOptions('the session continues'),
    ...commandOptions,
    jsonOption(
      'Print the session as one JSON document once it is published or has failed (with --no-wait: {"accepted": true, "session": …}); ' +
        'progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  exitStatus: waitingExitStatus('the session continues'),
  environment: clientEnvironment,
  files: clientFiles,
} as const satisfies Partial<VerbDescription>

export interface SessionCommand {
  readonly verb: string
  /** Sends it. Resolves to the reply. */
  readonly send: (
    bus: Bus,
    session: string,
    options: CommandOptions,
  ) => Promise<{ session: string; after?: number | undefined }>
  /** Announces the action on the terminal, followed by the session id. */
  readonly doing: string
  /** The steps to expect, if known. */
  readonly steps?: readonly StepName[]
  /** Whether a new step must follow; until then the session still shows its state before the command. */
  readonly needsStep: (before: SessionView) => boolean
}

/** @returns the exit status */
export async function runUntilPublished<Options extends WaitingOptions>(
  { context, options, argument, deadline, connect }: Call<Options>,
  { verb, send, doing, steps, needsStep }: SessionCommand,
): Promise<number> {
  const started = context.now()
  const json = options.json === true
  await using connection = await connect()
  const { bus } = connection
  const session = await resolveSession(bus, argument, deadline)
  const before = await showSession(bus, session, deadline)
  const reply = await send(bus, session, { deadline, options })
  // A command that is repeated under its message id was accepted earlier than now.
  const since = reply.after ?? latestSequence(before)
  if (!options.wait) return printAccepted(context, json, reply)
  const remarks = json ? context.stderr : context.stdout
  remarks.line(`${doing} ${remarks.style('bold', session)}`)
  return await awaitPublished({
    ...{ context, bus, session, verb, json, deadline, started },
    ...(steps !== undefined && { steps }),
    shownSince: since,
    ...(needsStep(before) && { since }),
  })
}

/** The output of a verb that does not wait. @returns the exit status */
export function printAccepted(context: Context, json: boolean, reply: { session: string }): number {
  const { session } = reply
  if (json) printJson(context, reply)
  else context.stdout.line(`accepted; "howdah watch ${session}" follows it`)
  return 0
}
