/** `howdah publish`: asks for a session and waits until it is published. */
import { randomUUID } from 'node:crypto'
import type { CommandBody, RecoverTo, SessionView } from '../../../messages/definitions.ts'
import { printJson } from '../context.ts'
import { formatDuration } from '../format.ts'
import {
  brokerOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  formatRecoverTo,
  jsonOption,
  parseName,
  parsePort,
  parseRecoverTo,
  parseRepositoryName,
  parseSeconds,
} from '../options.ts'
import { ask } from '../request.ts'
import { errorLines, fetchedText, fieldLines, psqlLine, writeCacheText } from '../session-lines.ts'
import { hasSettled } from '../session-progress.ts'
import { printable, type Terminal, wrap } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'
import { unsettled, waitForSession } from '../wait-for-session.ts'

interface PublishOptions extends ClientOptions {
  readonly repository: string
  readonly instance: string
  readonly target: string
  readonly backup?: string
  readonly recoverTo?: RecoverTo
  readonly port?: number
  readonly user?: string
  readonly wait: boolean
  readonly messageId?: string
  readonly timeout?: number
}

export const publish = defineVerb<PublishOptions>({
  name: 'publish',
  summary: 'publish an instance from a backup on a target server',
  description: [
    'Mounts a backup on the target server and starts PostgreSQL on it. Nothing is restored first: what is read is ' +
      'fetched when it is read, what is changed goes to a write cache on the target, and the backup is never ' +
      'written to. The instance is promoted, writable, and cut off from production.',
    'Waits until the instance answers, with one line for each step: in place on a terminal, one line per change ' +
      'elsewhere. A session that fails is cleaned up, and what was undone is shown. Ctrl-C stops the waiting, not ' +
      'the session. A crash of any part on the way only delays the session.',
  ],
  options: [
    {
      flags: '--repository <R>',
      description: 'Repository, as "howdah backups" shows it.',
      required: true,
      parse: parseName,
    },
    {
      flags: '--instance <I>',
      description: 'Instance in it (pgBackRest: stanza; Barman: server).',
      required: true,
      parse: parseRepositoryName,
    },
    {
      flags: '--target <T>',
      description: 'Target agent, as "howdah agents" shows it; "local" with "howdah up".',
      required: true,
      parse: parseName,
    },
    {
      flags: '--backup <L>',
      description: 'Label of the backup.',
      defaultText: 'the latest one that can be published',
      parse: parseRepositoryName,
    },
    {
      flags: '--recover-to <WHAT>',
      description:
        'The state asked for: latest (end of the archive), immediate (end of the backup), time=2025-11-22 ' +
        '07:30:00+01, lsn=0/3000148, xid=1234, or name=RESTORE_POINT.',
      defaultText: 'latest',
      parse: parseRecoverTo,
    },
    {
      flags: '--port <N>',
      description: 'Port of the published instance on the target.',
      defaultText: 'a free one from the configuration of the target agent',
      parse: parsePort,
    },
    {
      flags: '--user <U>',
      description: 'Operating system user that it runs as.',
      defaultText: 'from the configuration of the target agent',
    },
    {
      flags: '--no-wait',
      description: 'Return as soon as the session is accepted; "howdah watch" follows it.',
    },
    {
      flags: '--timeout <S>',
      description: 'Seconds after which waiting is given up with status 1; the session goes on.',
      defaultText: 'none',
      parse: parseSeconds,
    },
    {
      flags: '--message-id <ID>',
      description:
        'Idempotency key: the same one sent again gives the same session instead of another. For scripts that retry.',
      defaultText: 'a new one',
    },
    jsonOption(
      'Print the session as one JSON document when it has settled (with --no-wait: {"accepted": true, "session": …}); ' +
        'progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  exitStatus: [...clientExitStatus, ['130', 'Ctrl-C while waiting; the session goes on.']],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    [
      'howdah publish --repository prod --instance main --target local',
      'The latest backup, recovered to the end of the archive.',
    ],
    [
      "howdah publish --repository prod --instance main --target local --recover-to 'time=2025-11-22 07:30:00+01'",
      'As it was at half past seven.',
    ],
    [
      'howdah publish --repository prod --instance main --target local --json | jq -r .connection.port',
      'In a script: the port to connect to.',
    ],
  ],
  run: runPublish,
})

async function runPublish({ context, options }: Call<PublishOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  const { backup, recoverTo, port, user } = options
  const body: CommandBody<'instance.publish'> = {
    repository: options.repository,
    instance: options.instance,
    target: options.target,
    ...(backup !== undefined && { backup }),
    ...(recoverTo !== undefined && { recoverTo }),
    ...(port !== undefined && { port }),
    ...(user !== undefined && { user }),
  }
  await using connection = await context.connect(options)
  const { bus } = connection
  const messageId = options.messageId ?? randomUUID()
  const reply = await ask(bus, 'instance.publish', body, {
    messageId,
    signal: context.interrupted,
    deadlineMs: (options.timeout ?? 120) * 1000,
    onWaiting: ({ message }) => context.stderr.line(`howdah publish: ${message}; asking again`),
  })
  const { session } = reply
  if (!options.wait) {
    if (json) printJson(context, reply)
    else remarks.line(`session ${session} accepted; "howdah watch ${session}" follows it`)
    return 0
  }
  const what = `${options.instance} from ${options.repository} on ${options.target}`
  remarks.line(`Publishing ${remarks.style('bold', what)}, session ${remarks.style('bold', session)}`)
  const result = await waitForSession({
    context,
    bus,
    session,
    settled: hasSettled,
    json,
    timeout: options.timeout,
  })
  const { view } = result
  if (result.outcome !== 'settled' || view === undefined) {
    const error = unsettled(result, session, options.timeout)
    if (json) printJson(context, view ?? { id: session, error: error.toBody() })
    context.stderr.line(`howdah publish: ${error.message}`)
    return result.outcome === 'interrupted' ? 130 : 1
  }
  if (json) printJson(context, view)
  const took = formatDuration(context.now().getTime() - started.getTime())
  for (const line of resultLines(remarks, view, took)) remarks.line(line)
  return view.state === 'published' ? 0 : 1
}

/** What is said when a publish has settled; `took`: since when it was asked for, where that is known. */
export function resultLines(terminal: Terminal, view: SessionView, took: string | undefined): string[] {
  if (view.state !== 'published') {
    const reason =
      view.error ??
      ({ code: 'session_state', message: 'the session was closed while it was published' } as const)
    return [
      '',
      `${terminal.style('red', 'Not published')}${took === undefined ? '' : ` after ${took}`}.`,
      ...errorLines(terminal, reason, view.undone),
    ]
  }
  return [
    '',
    ...wrap(
      `${terminal.style('green', 'Published')}${took === undefined ? '' : ` in ${took}`}: backup ` +
        `${printable(view.backup)}, recovered to ${printable(formatRecoverTo(view.recoverTo))}.`,
      terminal.columns,
    ),
    ...fieldLines(terminal, [
      ['connect', psqlLine(view), 'whole'],
      ['fetched', fetchedText(view)],
      ['changes', writeCacheText(view)],
      ['close', `howdah unpublish ${view.id}`],
      ...view.warnings.map((warning) => ['warning', printable(warning)] as const),
    ]),
  ]
}
