/** Options that several verbs share, and the values that options take. */
import { homedir } from 'node:os'
import path from 'node:path'
import { brokerUrls } from '../../config/formats.ts'
import { Name, RepositoryName, SessionId } from '../../messages/primitives.ts'
import { type TagOptions, tagOptions } from './tag-options.ts'
import { InvalidValue } from './usage-error.ts'
import type { Entry, OptionDescription } from './verb-description.ts'

export interface ClientOptions {
  readonly json?: true
  readonly broker?: string
  readonly config?: string
  readonly state?: string
  /** Seconds. */
  readonly timeout?: number
}

/** Options of verbs that change something. */
export interface CommandOptions extends ClientOptions, TagOptions {
  readonly messageId?: string
}

export const jsonOption = (what: string): OptionDescription => ({ flags: '--json', description: what })

/** How a client verb finds the broker. */
export const brokerOptions: readonly OptionDescription[] = [
  {
    flags: '--broker <URL>',
    description:
      'The broker: amqp://user:password@host:port/vhost, or amqps:// for TLS; those of all nodes of a cluster, separated by commas. Other users of this machine can see it ' +
      'there: HOWDAH_BROKER_URL and --config keep a password to yourself.',
    secret: true,
    parse: parseBrokerUrl,
  },
  {
    flags: '--config <FILE>',
    description: 'Configuration file that names the broker (key broker.urls).',
    parse: (text) => path.resolve(text),
  },
  {
    flags: '--state <DIR>',
    description: 'State directory of a "howdah up" running on this machine; its broker is used.',
    parse: (text) => path.resolve(text),
  },
]

/** Options of verbs that only ask. `usual`: how long they wait without --timeout, in words. */
export function askingOptions(usual: string): readonly OptionDescription[] {
  return [timeoutOption('Give up after S seconds, with status 1.', usual), ...brokerOptions]
}

/** Of verbs that change something: what identifies the command. */
export const messageIdOption: OptionDescription = {
  flags: '--message-id <ID>',
  description:
    'Idempotency key, for scripts that retry: the same command again under the same key does nothing twice, and gets ' +
    'the same answer.',
  defaultText: 'a random one',
  parse: parseMessageId,
}

/** Options of verbs that change something: what identifies the command, and what it notes on its session. */
export const commandOptions: readonly OptionDescription[] = [...tagOptions, messageIdOption]

function timeoutOption(description: string, defaultText: string): OptionDescription {
  return { flags: '--timeout <S>', description, defaultText, parse: parseSeconds }
}

export const clientEnvironment: readonly Entry[] = [
  ['HOWDAH_BROKER_URL', 'The broker, as --broker.'],
  ['HOWDAH_CONFIG', 'Configuration file, as --config.'],
  ['HOWDAH_STATE', 'State directory of a running "howdah up", as --state.'],
  [
    'HOWDAH_BROKER_CA, HOWDAH_BROKER_CERTIFICATE, HOWDAH_BROKER_KEY',
    'TLS files for an amqps:// broker (PEM).',
  ],
  [
    'HOWDAH_LOG_LEVEL',
    'Log of the connection on stderr: fatal, error, warn, info, debug or trace. Default: none.',
  ],
  ['NO_COLOR', 'No colours if set.'],
]

export const clientFiles: readonly Entry[] = [
  [
    'STATE/up.json',
    'The broker of a running "howdah up". STATE is --state, HOWDAH_STATE, or the default of "howdah up": ' +
      '/var/lib/howdah for root, $XDG_STATE_HOME/howdah or ~/.local/state/howdah for others. Flags take ' +
      'precedence, then the environment in the order above, then this file.',
  ],
  [
    '$XDG_CONFIG_HOME/howdah/client.json, /etc/howdah/client.json',
    'Configuration of the command line, where nothing else names a broker. XDG_CONFIG_HOME is ~/.config by default.',
  ],
]

/** The exit status of what a signal ends: 128 and its number. `addition`: what that means. */
function interruptedStatus(what: string, addition = ''): readonly Entry[] {
  return [
    ['130', `Ctrl-C (SIGINT) ended ${what}${addition}.`],
    ['143', `SIGTERM ended it; 129: SIGHUP did; 141: nobody read the output any more.`],
  ]
}

export const clientExitStatus: readonly Entry[] = [
  ['0', 'Done.'],
  ['1', 'Failed; the reason and its code are on stderr, and with --json on stdout as {"error": …}.'],
  ['2', 'Wrong usage; nothing was done.'],
  ...interruptedStatus('the verb'),
]

/** Where `howdah up` keeps its state by default. */
export function defaultStateDirectory(env: NodeJS.ProcessEnv, uid: number): string {
  if (uid === 0) return '/var/lib/howdah'
  return path.join(env.XDG_STATE_HOME || path.join(env.HOME || homedir(), '.local/state'), 'howdah')
}

/** Of the command line: the user's, then that of the machine, which "howdah fleet init" makes. */
export function defaultClientFiles(env: NodeJS.ProcessEnv): readonly string[] {
  const own = env.XDG_CONFIG_HOME || path.join(env.HOME || homedir(), '.config')
  return [path.join(own, 'howdah/client.json'), '/etc/howdah/client.json']
}

/** One URL, or several that commas separate. */
export function parseBrokerUrl(text: string): string {
  try {
    brokerUrls.validate(brokerUrls.coerce(text))
    return text
  } catch {
    throw new InvalidValue('like amqp://user:password@host:5672/vhost')
  }
}

export function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port < 1 || port > 65535) {
    throw new InvalidValue('a number from 1 to 65535')
  }
  return port
}

function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (text.trim() === '' || !Number.isFinite(seconds) || seconds <= 0) {
    throw new InvalidValue('a number of seconds above 0')
  }
  return seconds
}

/** What RabbitMQ and the contract take as message_id: a short string of printable characters. */
function parseMessageId(text: string): string {
  if (!/^[\x21-\x7e]{1,255}$/.test(text))
    throw new InvalidValue('1 to 255 printable ASCII characters, no space')
  return text
}

export function parseName(text: string): string {
  if (!Name.safeParse(text).success) {
    throw new InvalidValue('letters, digits, _ and -, at most 63')
  }
  return text
}

export function parseRepositoryName(text: string): string {
  if (!RepositoryName.safeParse(text).success) {
    throw new InvalidValue('a name as "howdah backups" shows it: no slash')
  }
  return text
}

/** A session id or the beginning of one. */
export function isSessionPrefix(text: string): boolean {
  return SessionId.safeParse(text).success
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }
const YEAR = 31_536_000

/** `90s`, `30m`, `4h`, `2d`, `1w`, or several together as in `1d12h`. Seconds, at most a year. @throws InvalidValue */
export function parseLifetime(text: string): number {
  const parts = [...text.matchAll(/(\d{1,9})([smhdw])/g)]
  const seconds = parts.reduce((sum, [, number, unit = '']) => sum + Number(number) * (UNITS[unit] ?? 0), 0)
  if (parts.map(([part]) => part).join('') !== text || seconds < 1 || seconds > YEAR) {
    throw new InvalidValue('a time like 30m, 4h, 2d or 1d12h, at most 365d')
  }
  return seconds
}

/** The argument of verbs about one session. */
export const sessionArgument = {
  name: 'SESSION',
  required: true,
  description: 'Session id, or a unique beginning of one.',
} as const

/** `--no-wait` and `--timeout`, of verbs that wait. `meanwhile`: what continues when waiting stops, as a clause. */
export function waitOptions(meanwhile: string): readonly OptionDescription[] {
  return [
    {
      flags: '--no-wait',
      description: 'Return as soon as the command is accepted; "howdah watch" follows the session.',
    },
    timeoutOption(
      `End after S seconds, counted from the start, with status 1; ${meanwhile} if the command was accepted.`,
      'none',
    ),
  ]
}

export interface WaitingOptions extends CommandOptions {
  readonly wait: boolean
}

/** The exit status of verbs that wait; `meanwhile` as for `waitOptions`. */
export function waitingExitStatus(meanwhile: string): readonly Entry[] {
  return [...clientExitStatus.slice(0, 3), ...interruptedStatus('waiting', `; ${meanwhile}`)]
}
