/** Options that several verbs share, and the values that options take. */
import { homedir } from 'node:os'
import path from 'node:path'
import { RecoverTo } from '../../messages/definitions.ts'
import { Name, RepositoryName, SessionId } from '../../messages/values.ts'
import { type Entry, InvalidValue, type OptionDescription } from './verb.ts'

export interface ClientOptions {
  readonly json?: true
  readonly broker?: string
  readonly config?: string
  readonly state?: string
}

export const jsonOption = (what: string): OptionDescription => ({ flags: '--json', description: what })

/** How a client verb finds the broker. */
export const brokerOptions: readonly OptionDescription[] = [
  {
    flags: '--broker <URL>',
    description: 'The broker: amqp://user:password@host:port/vhost, or amqps:// for TLS.',
    secret: true,
    parse: parseBrokerUrl,
  },
  {
    flags: '--config <FILE>',
    description: 'Configuration file that names the broker (key broker.url).',
    parse: (text) => path.resolve(text),
  },
  {
    flags: '--state <DIR>',
    description: 'State directory of a running "howdah up" on this machine, whose broker is used.',
    parse: (text) => path.resolve(text),
  },
]

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
  ['NO_COLOR', 'Without colours when set.'],
]

export const clientFiles: readonly Entry[] = [
  [
    'STATE/up.json',
    'Where the broker of a running "howdah up" is. STATE is --state, HOWDAH_STATE, or the default of ' +
      '"howdah up": /var/lib/howdah for root, $XDG_STATE_HOME/howdah or ~/.local/state/howdah for others. ' +
      'Flags are looked at first, then the environment in the order above, then this file.',
  ],
]

export const clientExitStatus: readonly Entry[] = [
  ['0', 'Done.'],
  ['1', 'Failed; the reason and its code are on stderr, and with --json on stdout as {"error": …}.'],
  ['2', 'Wrong usage; nothing was done.'],
]

/** Where `howdah up` keeps its state unless told otherwise. */
export function defaultStateDirectory(env: NodeJS.ProcessEnv, uid: number): string {
  if (uid === 0) return '/var/lib/howdah'
  return path.join(env.XDG_STATE_HOME || path.join(env.HOME || homedir(), '.local/state'), 'howdah')
}

export function parseBrokerUrl(text: string): string {
  if (!URL.canParse(text) || !['amqp:', 'amqps:'].includes(new URL(text).protocol)) {
    throw new InvalidValue('like amqp://user:password@host:5672/vhost')
  }
  return text
}

export function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port < 1 || port > 65535) {
    throw new InvalidValue('a number from 1 to 65535')
  }
  return port
}

export function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (text.trim() === '' || !Number.isFinite(seconds) || seconds <= 0) {
    throw new InvalidValue('a number of seconds above 0')
  }
  return seconds
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

export function parseRecoverTo(text: string): RecoverTo {
  const equals = text.indexOf('=')
  const type = equals < 0 ? text : text.slice(0, equals)
  const value = equals < 0 ? undefined : text.slice(equals + 1)
  const parsed = RecoverTo.safeParse(value === undefined ? { type } : { type, value })
  const needsValue = !['latest', 'immediate'].includes(type)
  if (!parsed.success || needsValue !== (value !== undefined)) {
    throw new InvalidValue('latest, immediate, time=…, lsn=…, xid=… or name=…')
  }
  return parsed.data
}

/** The recovery target as --recover-to takes it. */
export function formatRecoverTo(recoverTo: RecoverTo): string {
  const text = recoverTo.value === undefined ? recoverTo.type : `${recoverTo.type}=${recoverTo.value}`
  const remarks = [
    ...(recoverTo.inclusive === false ? ['exclusive'] : []),
    ...(recoverTo.timeline === undefined ? [] : [`timeline ${recoverTo.timeline}`]),
  ]
  return remarks.length === 0 ? text : `${text} (${remarks.join(', ')})`
}
