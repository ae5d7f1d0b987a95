/** `howdah extend`: sets when a session expires. */
import { printJson } from '../context.ts'
import { formatTimeFully } from '../format.ts'
import {
  askingOptions,
  type CommandOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  commandOptions,
  jsonOption,
  parseLifetime,
  sessionArgument,
} from '../options.ts'
import { resolveSession, sendCommand, showSession } from '../request.ts'
import { InvalidValue, UsageError } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface ExtendOptions extends CommandOptions {
  readonly never?: true
}

export const extend = defineVerb<ExtendOptions>({
  name: 'extend',
  summary: 'set when a session expires, or that it never does',
  description: [
    'A session that was published with --expires is unpublished at that time, together with all its changes. ' +
      'This sets a new time, counted from now. It may be earlier than before, and works for a session without an ' +
      'expiry too. "howdah sessions" shows when each session expires.',
  ],
  arguments: [
    sessionArgument,
    { name: 'TIME', required: false, description: 'Time from now, like 30m, 4h, 2d or 1d12h; at most 365d.' },
  ],
  options: [
    { flags: '--never', description: 'Instead of TIME: the session does not expire.' },
    jsonOption('Print the session as one JSON document.'),
    ...commandOptions,
    ...askingOptions('a minute'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah extend main-x7 4h', 'Expire four hours from now.'],
    ['howdah extend main-x7 --never', 'Keep it until it is unpublished.'],
  ],
  run: runExtend,
})

async function runExtend({
  context,
  options,
  argument,
  further,
  deadline,
  connect,
}: Call<ExtendOptions>): Promise<number> {
  const expiresIn = lifetime(further[0], options.never === true)
  await using connection = await connect()
  const { bus } = connection
  const session = await resolveSession(bus, argument, deadline)
  await sendCommand(
    bus,
    'session.extend',
    { session, expiresIn },
    {
      deadline,
      options,
    },
  )
  const view = await showSession(bus, session, deadline)
  if (options.json === true) {
    printJson(context, view)
    return 0
  }
  const until =
    view.expiresAt === undefined
      ? 'lives until it is unpublished'
      : `is unpublished at ${formatTimeFully(new Date(view.expiresAt), context.now())}`
  context.stdout.line(`session ${session} ${until}`)
  return 0
}

/** Seconds; null: does not expire. @throws UsageError */
function lifetime(text: string | undefined, never: boolean): number | null {
  if (never === (text !== undefined)) throw new UsageError('either a TIME like 4h, or --never', extend)
  if (text === undefined) return null
  try {
    return parseLifetime(text)
  } catch (error) {
    if (error instanceof InvalidValue) throw new UsageError(`TIME: it must be ${error.message}`, extend)
    throw error
  }
}
