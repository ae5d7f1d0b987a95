/** `howdah check`: reports whether a publish would succeed, and what it would need. */
import type { CheckReport } from '../../../messages/definitions.ts'
import type { ErrorBody } from '../../../messages/errors.ts'
import { formatBytes } from '../../../messages/format-bytes.ts'
import type { Finding } from '../../../messages/primitives.ts'
import { type Context, printJson, printJsonFailure } from '../context.ts'
import { count } from '../format.ts'
import { askingOptions, clientEnvironment, clientExitStatus, clientFiles, jsonOption } from '../options.ts'
import { instanceOptions, publishBody, type SourceOptions, sourceOptions } from '../publish-options.ts'
import { describeRecoverTo, TIMES } from '../recovery-target.ts'
import { ask } from '../request.ts'
import { fieldLines, findingLines } from '../session-lines.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'

export const check = defineVerb<SourceOptions>({
  name: 'check',
  summary: 'check whether a publish would succeed, and what it would need',
  description: [
    'Makes the mount agent and the target agent run the checks of a publish with the same options, and reports ' +
      'all findings at once: first the errors, which prevent publishing, then the warnings, each with what to do. ' +
      'Also estimates the bytes to fetch before the instance is usable, the WAL to replay, and the space that the ' +
      'write cache needs. Nothing is mounted and nothing is kept.',
  ],
  options: [
    ...sourceOptions,
    ...instanceOptions,
    jsonOption(
      'Print the report as one JSON document: {"backup", "recoverTo", "findings": [{"level", "code", "message"}, …], ' +
        '"estimate": {"fetchBytes", "walBytes", "cacheBytes", "freeBytes"}}. Unknown values are omitted. With errors there is also "error".',
    ),
    ...askingOptions('150 seconds'),
  ],
  sections: [['TIMES', TIMES]],
  exitStatus: [
    ['0', 'The instance can be published; there may be warnings.'],
    ['1', 'The instance cannot be published, or the check failed.'],
    ...clientExitStatus.slice(2),
  ],
  environment: [...clientEnvironment, ['TZ', 'Time zone of times that are given without one.']],
  files: clientFiles,
  examples: [
    ['howdah check --repository prod --instance main --target db-7', 'Check the latest state.'],
    [
      "howdah check --repository prod --instance main --target db-7 --recover-to 'time=2026-11-22 07:30:00+01' --port 5433",
      'Check that this time can be reached and that the port is free.',
    ],
    [
      `howdah check --repository prod --instance main --target db-7 --json | jq -r '.findings[] | "\\(.level) \\(.message)"'`,
      'The findings, one per line, for a script.',
    ],
  ],
  run: runCheck,
})

async function runCheck({ context, options, deadline, connect }: Call<SourceOptions>): Promise<number> {
  const body = publishBody(options)
  if (options.recoverTo?.remark !== undefined) context.stderr.line(options.recoverTo.remark)
  await using connection = await connect()
  // Each of the two agents may take up to a minute.
  const { report } = await ask(connection.bus, 'instance.check', body, {
    ...deadline.asking(150_000),
    tryMs: 130_000,
  })
  const error = errorOf(report)
  if (options.json === true && error !== undefined) printJsonFailure(context, error, report)
  else if (options.json === true) printJson(context, report)
  else for (const line of reportLines(context, options, report)) context.stdout.line(line)
  return error === undefined ? 0 : 1
}

/** The one finding that prevents publishing, or all of them; undefined: it can be published. */
function errorOf({ findings }: CheckReport): ErrorBody | undefined {
  const errors = findings.filter(({ level }) => level === 'error').map(({ level: _, ...error }) => error)
  const [first, ...others] = errors
  if (first === undefined || others.length === 0) return first
  return {
    code: 'preflight_failed',
    message: `${count(errors.length, 'error')}: ${errors.map(({ message }) => message).join(' ')}`,
    details: errors,
  }
}

function reportLines(
  { stdout }: Pick<Context, 'stdout'>,
  { repository, instance, target }: SourceOptions,
  { backup, recoverTo, findings, estimate }: CheckReport,
): string[] {
  const of = (wanted: Finding['level']) => findings.filter(({ level }) => level === wanted)
  const [errors, warnings] = [of('error'), of('warning')]
  const { fetchBytes, walBytes, cacheBytes, freeBytes } = estimate
  const room = [
    ...(cacheBytes === undefined ? [] : [formatBytes(cacheBytes)]),
    ...(freeBytes === undefined ? [] : [`${formatBytes(freeBytes)} free on the target`]),
  ]
  const numbers = [
    ...(errors.length > 0 ? [count(errors.length, 'error')] : []),
    ...(warnings.length > 0 ? [count(warnings.length, 'warning')] : []),
  ].join(', ')
  const isGood = errors.length === 0
  const verdict = isGood
    ? stdout.style('green', 'Can be published')
    : stdout.style('red', 'Cannot be published')
  return [
    `${verdict}${numbers === '' ? '' : `: ${numbers}`}.`,
    ...fieldLines(stdout, [
      ['instance', printable(`${instance} from ${repository} on ${target}`)],
      ['backup', backup === undefined ? undefined : printable(backup)],
      ['recover to', recoverTo === undefined ? undefined : printable(describeRecoverTo(recoverTo))],
      [
        'to fetch',
        fetchBytes === undefined ? undefined : `about ${formatBytes(fetchBytes)} before it is usable`,
      ],
      ['to replay', walBytes === undefined ? undefined : `${formatBytes(walBytes)} of WAL`],
      ['cache needs', room.length === 0 ? undefined : room.join(', ')],
    ]),
    ...(findings.length === 0 ? [] : ['']),
    ...[...errors, ...warnings].flatMap((finding) => findingLines(stdout, finding)),
  ]
}
