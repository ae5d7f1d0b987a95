/** The options of `publish`, `check` and `rescue`, and the message body that they describe. */
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

/** Size of pg_hba.conf in bytes; the message contract has the same limit. */
const MAX_HBA_BYTES = 65_536

/** Options for what is published, where, and in which state. */
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
    description: 'Label of the backup to start from.',
    defaultText: 'the newest one that ended before the recovery target',
    parse: parseRepositoryName,
  },
  ...recoveryOptions('latest'),
]

/** Options for how the instance runs. */
export const instanceOptions: readonly OptionDescription[] = [
  {
    flags: '--port <N>',
    description: 'Port of the published instance on the target.',
    defaultText: 'a free one from the configuration of the target agent',
    parse: parsePort,
  },
  {
    flags: '--user <U>',
    description: 'Operating system user that the instance runs as.',
    defaultText: 'from the configuration of the target agent',
    parse: parseUser,
  },
  {
    flags: '--superuser <ROLE>',
    description: 'Superuser role that Howdah connects to the instance with.',
    defaultText: 'an existing superuser, whatever its name',
    parse: parseRole,
  },
  {
    flags: '--after-recovery <WHAT>',
    description:
      'promote: the instance becomes writable. pause: recovery pauses at its target, and the instance is ' +
      'read-only for inspection; then use "howdah promote", or "howdah advance" for a later target.',
    defaultText: 'promote',
    choices: ['promote', 'pause'],
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
      'PostgreSQL setting that overrides those of the backup and those that isolate the instance from production. ' +
      'Settings that Howdah itself depends on are refused.',
    repeatable: true,
    secret: true,
    parse: parseSetting,
  },
  {
    flags: '--hba-file <FILE>',
    description:
      'pg_hba.conf of the instance: who may connect and how. The file is read on this machine and sent, so it ' +
      'need not exist on the target.',
    defaultText: 'local access; on localhost with the roles and passwords of the backup',
    parse: readHbaFile,
  },
  {
    flags: '--allow-outbound <HOST[:PORT]>',
    description:
      'Host that the instance may connect to, by dblink, foreign tables or programs that it runs. Host names are ' +
      'resolved when the instance starts. All other connections are blocked if the target agent runs as root.',
    repeatable: true,
    defaultText: 'none',
    parse: parseOutbound,
  },
]

export const expiresOption: OptionDescription = {
  flags: '--expires <TIME>',
  description:
    'Unpublish the session automatically after this time, like 30m, 4h, 2d or 1d12h. Warnings are sent before; ' +
    '"howdah extend" changes the time.',
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
