/** `howdah doctor`: whether what a target keeps of its sessions is as it was written. */
import type { DoctorItem } from '../../../messages/definitions.ts'
import { formatBytes } from '../../../messages/format-bytes.ts'
import { type Context, printJson } from '../context.ts'
import { count, formatShare } from '../format.ts'
import {
  brokerOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  parseName,
} from '../options.ts'
import { ask } from '../request.ts'
import { renderTable } from '../table.ts'
import { printable, wrap } from '../terminal.ts'
import { InvalidValue } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface DoctorOptions extends ClientOptions {
  readonly target: string
  readonly timeLimit?: number
}

const DEFAULT_SECONDS = 60
/** For the target on top, and for the way. */
const GRACE_MS = 90_000

export const doctor = defineVerb<DoctorOptions>({
  name: 'doctor',
  summary: 'find out whether what a target keeps of its sessions is sound',
  description: [
    'Has a target compare the blocks that it fetched with their checksums, and each write cache with its journal, ' +
      'while sessions go on. Fetched blocks that are not as they were written are taken out, and are fetched again when ' +
      'they are wanted; a store that makes no sense is discarded unless a session uses it. Write caches are left as they ' +
      'are: what is wrong with one is told.',
  ],
  options: [
    { flags: '--target <T>', description: 'The target agent.', required: true, parse: parseName },
    {
      flags: '--time-limit <SECONDS>',
      description: 'How long to compare at most; what is left then counts as not looked at.',
      defaultText: String(DEFAULT_SECONDS),
      parse: parseTimeLimit,
    },
    jsonOption(
      'Print the report as one JSON document: {"items": [{"kind", "name", "path", "sessions", "bytes", "checkedBytes", ' +
        '"verdict", "problems"}, …]}. Verdicts are sound, mended, discarded and damaged.',
    ),
    ...brokerOptions,
  ],
  exitStatus: [
    ['0', 'All is sound, as far as it was looked at, or is so again.'],
    ['1', 'Something is damaged and was left as it is, or it could not be found out.'],
    ...clientExitStatus.slice(2),
  ],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah doctor --target db-7', 'What db-7 keeps.'],
    ['howdah doctor --target db-7 --time-limit 1200', 'Much of it.'],
  ],
  run: runDoctor,
})

async function runDoctor({ context, options }: Call<DoctorOptions>): Promise<number> {
  const { target, timeLimit = DEFAULT_SECONDS } = options
  await using connection = await context.connect(options)
  const deadlineMs = timeLimit * 1000 + GRACE_MS
  const { items } = await ask(
    connection.bus,
    'target.doctor',
    { target, timeLimit },
    { signal: context.interrupted, tryMs: deadlineMs, deadlineMs: 2 * deadlineMs },
  )
  if (options.json === true) printJson(context, { items })
  else for (const line of reportLines(context, items)) context.stdout.line(line)
  return items.some(({ verdict }) => verdict === 'damaged') ? 1 : 0
}

function parseTimeLimit(text: string): number {
  const seconds = Number(text)
  if (!/^\d+$/.test(text) || seconds < 1 || seconds > 1500) throw new InvalidValue('1 to 1500 seconds')
  return seconds
}

const COLOURS = { sound: 'green', mended: 'yellow', discarded: 'yellow', damaged: 'red' } as const

function reportLines({ stdout }: Pick<Context, 'stdout'>, items: readonly DoctorItem[]): string[] {
  if (items.length === 0) return ['The target keeps nothing of any session.']
  const table = renderTable(
    stdout,
    [
      { title: 'WHAT', value: ({ kind }) => (kind === 'write-cache' ? 'write cache' : 'fetched blocks') },
      { title: 'NAME', value: ({ name }) => printable(name), minimum: 12 },
      {
        title: 'STATE',
        value: ({ verdict }) => verdict,
        style: (text, { verdict }) => stdout.style(COLOURS[verdict], text),
      },
      { title: 'LOOKED AT', value: extentText, align: 'right' },
      { title: 'USED BY', value: usersText, minimum: 12, expendable: 1 },
    ],
    items,
  )
  const problems = items.flatMap(({ path, problems }) =>
    problems.length === 0
      ? []
      : ['', printable(path), ...problems.flatMap((text) => wrap(`! ${printable(text)}`, stdout.columns))],
  )
  return [...table, ...problems]
}

function extentText({ bytes, checkedBytes }: DoctorItem): string {
  return checkedBytes === bytes ? formatBytes(bytes) : formatShare(checkedBytes, bytes)
}

function usersText({ kind, sessions }: DoctorItem): string {
  if (kind === 'write-cache') return ''
  const shown = sessions.slice(0, 3).map(printable).join(', ')
  return sessions.length <= 3 ? shown : `${shown} and ${count(sessions.length - 3, 'other')}`
}
