/** `howdah doctor`: verifies the fetched blocks and the write caches of a target. */
import type { DoctorItem } from '../../../messages/definitions.ts'
import type { ErrorBody } from '../../../messages/errors.ts'
import { formatBytes } from '../../../messages/format-bytes.ts'
import { type Context, printJson, printJsonFailure } from '../context.ts'
import { count, formatShare } from '../format.ts'
import {
  askingOptions,
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
/** Added to the time limit, for the agent's own work and the message transport. */
const GRACE_MS = 90_000

export const doctor = defineVerb<DoctorOptions>({
  name: 'doctor',
  summary: 'verify the fetched blocks and the write caches of a target',
  description: [
    'Makes a target verify the blocks that it fetched against their checksums, and each write cache against its ' +
      'journal, while its sessions continue. Fetched blocks that are wrong are removed and fetched again when ' +
      'needed; a store that cannot be read is discarded unless a session uses it. Write caches are never ' +
      'modified: what is wrong with one is reported.',
  ],
  options: [
    { flags: '--target <T>', description: 'The target agent.', required: true, parse: parseName },
    {
      flags: '--time-limit <SECONDS>',
      description: 'Seconds after which verification stops; the rest is reported as not checked.',
      defaultText: String(DEFAULT_SECONDS),
      parse: parseTimeLimit,
    },
    jsonOption(
      'Print the report as one JSON document: {"items": [{"kind", "name", "path", "sessions", "bytes", "checkedBytes", ' +
        '"verdict", "problems"}, …]}. Verdicts are sound, mended, discarded and damaged.',
    ),
    ...askingOptions('twice the time limit and some more'),
  ],
  exitStatus: [
    ['0', 'Everything that was checked is sound, or was repaired.'],
    ['1', 'Something is damaged and was left as it is, or the verification failed.'],
    ...clientExitStatus.slice(2),
  ],
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah doctor --target db-7', 'Verify what db-7 stores.'],
    ['howdah doctor --target db-7 --time-limit 1200', 'Take up to 20 minutes.'],
  ],
  run: runDoctor,
})

async function runDoctor({ context, options, deadline, connect }: Call<DoctorOptions>): Promise<number> {
  const { target, timeLimit = DEFAULT_SECONDS } = options
  await using connection = await connect()
  const tryMs = timeLimit * 1000 + GRACE_MS
  const { items } = await ask(
    connection.bus,
    'target.doctor',
    { target, timeLimit },
    { ...deadline.asking(2 * tryMs), tryMs },
  )
  const damaged = items.filter(({ verdict }) => verdict === 'damaged')
  const error: ErrorBody = {
    code: 'cache_unusable',
    message: `damaged: ${damaged.map(({ path }) => path).join(', ')}`,
  }
  if (options.json === true && damaged.length > 0) printJsonFailure(context, error, { items })
  else if (options.json === true) printJson(context, { items })
  else for (const line of reportLines(context, items)) context.stdout.line(line)
  return damaged.length > 0 ? 1 : 0
}

function parseTimeLimit(text: string): number {
  const seconds = Number(text)
  if (!/^\d+$/.test(text) || seconds < 1 || seconds > 1500) throw new InvalidValue('1 to 1500 seconds')
  return seconds
}

const COLOURS = { sound: 'green', mended: 'yellow', discarded: 'yellow', damaged: 'red' } as const

function reportLines({ stdout }: Pick<Context, 'stdout'>, items: readonly DoctorItem[]): string[] {
  if (items.length === 0) return ['The target keeps nothing: neither fetched blocks nor write caches.']
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
      { title: 'CHECKED', value: extentText, align: 'right' },
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
