/** `howdah audit`: who asked for what, and how sessions changed. */
import type { AuditEntry } from '../../../messages/audit.ts'
import { SessionId } from '../../../messages/primitives.ts'
import { type Context, printJson } from '../context.ts'
import { formatTime } from '../format.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
} from '../options.ts'
import { parseWhen, timeOf, type When } from '../session-filter.ts'
import { printable } from '../terminal.ts'
import { InvalidValue } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface AuditOptions extends ClientOptions {
  readonly since?: When
  readonly session?: string
  readonly follow?: true
}

export const audit = defineVerb<AuditOptions>({
  name: 'audit',
  summary: 'show who asked for what, and how sessions changed',
  description: [
    'Reads the stream howdah.audit on the broker: each command that changes something, with its sender as RabbitMQ ' +
      'has checked it and whether it was accepted, and each change of the state of a session. Commands that only ask ' +
      'are not in it, and neither is what breaks the contract: that is among the dead letters.',
    'RabbitMQ removes the oldest entries by age and size, as the policy howdah-audit says; stderr says when entries ' +
      'that were asked for are gone.',
    'It needs a user that may read the stream: an operator ("howdah broker setup --operator NAME").',
  ],
  options: [
    {
      flags: '--since <WHEN>',
      description: 'Entries of then and later: a time ago like 30m, 4h or 2d, or 2026-11-22T07:30:00+01:00.',
      defaultText: 'all that are kept',
      parse: parseWhen,
    },
    {
      flags: '--session <SESSION>',
      description: 'Entries about one session, by its whole id.',
      parse: (text) => {
        if (!SessionId.safeParse(text).success) throw new InvalidValue('the whole id of a session')
        return text
      },
    },
    { flags: '--follow', description: 'Go on with new entries, until Ctrl-C or --timeout.' },
    jsonOption(
      'Print one JSON document per entry and line, {"type", "body"}, as in the message contract. The same entry always ' +
        'has the same body.id. When entries are gone, the first line is {"type": "audit.removed", "body": {"before"}}.',
    ),
    ...askingOptions('none'),
  ],
  exitStatus: [['0', 'Done; with --follow, --timeout is over.'], ...clientExitStatus.slice(1)],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah audit --since 1d', 'What happened since yesterday.'],
    ['howdah audit --session main-x7f3k2', 'Who published this session, and what became of it.'],
    [
      `howdah audit --json | jq -c 'select(.body.outcome == "refused")'`,
      'What was refused, with the sender and the reason.',
    ],
  ],
  run: runAudit,
})

async function runAudit(call: Call<AuditOptions>): Promise<number> {
  const { context, options, deadline } = call
  const { since, session, follow = false, json } = options
  await using operator = await call.connectOperator()
  try {
    await operator.readAudit({
      since: since && new Date(timeOf(since, context.now())),
      ...{ follow, signal: deadline.signal },
      onEntry({ type, body }) {
        if (session !== undefined && body.session !== session) return
        if (json === true) printJson(context, { type, body })
        else context.stdout.line(entryLine(context, { type, body } as AuditEntry))
      },
      onRemoved(before) {
        if (json === true)
          printJson(context, { type: 'audit.removed', body: { before: before.toISOString() } })
        context.stderr.line(
          `howdah audit: entries before ${formatTime(before)} are gone, by the age and size that RabbitMQ keeps`,
        )
      },
    })
  } catch (error) {
    const isOver = follow && deadline.signal.aborted && !context.interrupted.aborted
    if (!isOver) throw error
  }
  return 0
}

/** `2026-11-22 07:30:02+01  main-x7f3k2  published` or `…  ops: instance.publish accepted`. */
function entryLine({ stdout }: Pick<Context, 'stdout'>, { type, body }: AuditEntry): string {
  const about = [
    stdout.style('dim', formatTime(new Date(body.at))),
    (body.session ?? '').padEnd(16),
    ...(type === 'audit.command' ? [commandText(body)] : [stateText(body)]),
  ]
  const { error } = body
  return `${about.join('  ')}${error === undefined ? '' : stdout.style('red', `: ${error.code}: ${printable(error.message)}`)}`
}

function commandText(body: Extract<AuditEntry, { type: 'audit.command' }>['body']): string {
  const { sender, command, outcome, request, reference } = body
  const { session: _, ...rest } = request
  const asked = Object.entries(rest).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  const by = sender.user ?? sender.application ?? 'unknown'
  const noted = reference === undefined ? [] : [`reference=${reference}`]
  return printable([`${by}:`, command, outcome, ...asked, ...noted].join(' '))
}

function stateText({ state, previous }: Extract<AuditEntry, { type: 'audit.session' }>['body']): string {
  return previous === undefined ? state : `${previous} → ${state}`
}
