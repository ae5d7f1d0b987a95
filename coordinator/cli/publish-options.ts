/** The options of the verbs that publish, or ask whether one could: what they mean, and the body of the message. */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import type { CommandBody } from '../../messages/definitions.ts'
import { SqlName } from '../../messages/exports.ts'
import { OutboundHost, UserName } from '../../messages/primitives.ts'
import { TargetOptions } from '../../messages/steps.ts'
import { type ClientOptions, parseLifetime, parseName, parsePort, parseRepositoryName } from './options.ts'
import { chosenTarget, type RecoveryOptions, recoveryOptions } from './recovery-target.ts'
import { InvalidValue, UsageError } from './usage-error.ts'
import type { OptionDescription } from './verb-description.ts'

export interface SourceOptions extends ClientOptions, RecoveryOptions {
  readonly repository: string
  readonly instance: string
  readonly target: string
  readonly backup?: string
  readonly port?: number
  readonly user?: string
  readonly superuser?: string
  readonly afterRecovery?: 'promote' | 'pause'
  readonly listen?: readonly string[]
  readonly setting?: readonly (readonly [name: string, value: string])[]
  readonly hbaFile?: string
  readonly allowOutbound?: readonly string[]
  readonly expires?: number
}

/** Content of pg_hba.conf, bytes; the contract has the same limit. */
const MAX_HBA_BYTES = 65_536

/** What is published, where, and in which state. */
export const sourceOptions: readonly OptionDescription[] = [
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
    description: 'Label of the backup to begin with.',
    defaultText: 'the newest one that ended before the recovery target',
    parse: parseRepositoryName,
  },
  ...recoveryOptions('latest'),
]

/** As whom and with what the instance runs. */
export const instanceOptions: readonly OptionDescription[] = [
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
    parse: parseUser,
  },
  {
    flags: '--superuser <ROLE>',
    description: 'Role of the backup that Howdah enters the instance as.',
    defaultText: 'the superuser that there is, whatever its name',
    parse: parseRole,
  },
  {
    flags: '--after-recovery <WHAT>',
    description:
      'promote: writable. pause: stands still at the recovery target, read-only, to look first; then "howdah ' +
      'promote", or "howdah advance" to a later target.',
    defaultText: 'promote',
    parse: parseAfterRecovery,
  },
  {
    flags: '--listen <ADDRESS>',
    description: 'Address of the target that the instance listens on; * for all.',
    repeatable: true,
    defaultText: 'localhost only',
    parse: parseListen,
  },
  {
    flags: '--setting <NAME=VALUE>',
    description:
      'PostgreSQL setting that wins over those of the backup, also over those that keep the instance away from ' +
      'production. What Howdah itself works by is refused.',
    repeatable: true,
    secret: true,
    parse: parseSetting,
  },
  {
    flags: '--hba-file <FILE>',
    description:
      'pg_hba.conf of the instance: who may connect and how. Read here and sent, so that it need not be on the target.',
    defaultText: 'local access, and the roles and passwords of the backup on localhost',
    parse: readHbaFile,
  },
  {
    flags: '--allow-outbound <HOST[:PORT]>',
    description:
      'Host that the instance may connect to, by dblink, foreign tables or programs that it runs. Addresses of a name ' +
      'are looked up when the instance starts. All else is closed where the target agent runs as root.',
    repeatable: true,
    defaultText: 'none',
    parse: parseOutbound,
  },
]

export const expiresOption: OptionDescription = {
  flags: '--expires <TIME>',
  description:
    'Unpublish it by itself after that time, like 30m, 4h, 2d or 1d12h. Warnings come before; "howdah extend" gives ' +
    'it more.',
  defaultText: 'never',
  parse: parseLifetime,
}

/** The body of `instance.publish` and `instance.check`. @throws UsageError where options contradict each other */
export function publishBody(options: SourceOptions): CommandBody<'instance.publish'> {
  const { repository, instance, target, backup, port, user, superuser, afterRecovery, hbaFile, expires } =
    options
  const recoverTo = chosenTarget(options)
  const listen = options.listen ?? []
  const settings = options.setting ?? []
  const names = settings.map(([name]) => name.toLowerCase())
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new UsageError(`--setting: ${twice} is given twice`)
  return {
    repository,
    instance,
    target,
    ...(backup !== undefined && { backup }),
    ...(recoverTo !== undefined && { recoverTo }),
    ...(port !== undefined && { port }),
    ...(user !== undefined && { user }),
    ...(superuser !== undefined && { superuser }),
    ...(afterRecovery !== undefined && { afterRecovery }),
    ...(listen.length > 0 && { listen: [...listen] }),
    ...(settings.length > 0 && { settings: Object.fromEntries(settings) }),
    ...(hbaFile !== undefined && { hba: hbaFile }),
    ...(options.allowOutbound !== undefined &&
      options.allowOutbound.length > 0 && { allowOutbound: [...options.allowOutbound] }),
    ...(expires !== undefined && { expiresIn: expires }),
  }
}

function parseUser(text: string): string {
  if (!UserName.safeParse(text).success) throw new InvalidValue('the name of an operating system user')
  return text
}

function parseRole(text: string): string {
  if (!SqlName.safeParse(text).success || Buffer.byteLength(text) > 63)
    throw new InvalidValue('the name of a role of PostgreSQL, without quotes')
  return text
}

function parseAfterRecovery(text: string): 'promote' | 'pause' {
  if (text !== 'promote' && text !== 'pause') throw new InvalidValue('promote or pause')
  return text
}

function parseListen(text: string): string {
  if (!/^[^\s,\p{Cc}]{1,255}$/u.test(text)) {
    throw new InvalidValue('one address or host name, or *; give the option again for another one')
  }
  return text
}

function parseOutbound(text: string): string {
  if (!OutboundHost.safeParse(text).success) {
    throw new InvalidValue('a host name or address, with :PORT or without; an IPv6 address in brackets')
  }
  return text
}

function parseSetting(text: string): readonly [string, string] {
  const equals = text.indexOf('=')
  const [name, value] = [text.slice(0, Math.max(0, equals)).trim(), text.slice(equals + 1)]
  if (!TargetOptions.shape.settings.safeParse({ [name]: value }).success) {
    throw new InvalidValue(
      'like work_mem=64MB: a name of PostgreSQL, =, and a value of at most 4096 characters',
    )
  }
  return [name, value]
}

function readHbaFile(file: string): string {
  let opened: number | undefined
  try {
    opened = openSync(file, 'r')
    const stat = fstatSync(opened)
    if (!stat.isFile()) throw new InvalidValue('a file')
    if (stat.size > MAX_HBA_BYTES) throw new InvalidValue(`a file of at most ${MAX_HBA_BYTES} bytes`)
    return readFileSync(opened, 'utf8')
  } catch (error) {
    if (error instanceof InvalidValue) throw error
    throw new InvalidValue(`a file that can be read here (${(error as NodeJS.ErrnoException).code})`)
  } finally {
    if (opened !== undefined) closeSync(opened)
  }
}
