/**
 * What commands may ask of this target beyond the defaults: users, settings, addresses, destinations. The configuration of
 * the agent says so (`allow`), so that nobody who may send commands gets further on this machine than its administrator
 * wants. Decides only; preflight and exports ask.
 */
import { realpath } from 'node:fs/promises'
import { isIP } from 'node:net'
import { dirname, normalize } from 'node:path'
import type { AllowConfig } from '../../../config/schema.ts'
import { HowdahError } from '../../../messages/errors.ts'
import type { Destination } from '../../../messages/exports.ts'
import type { TargetOptions } from '../../../messages/steps.ts'
import { type OutboundRule, parseOutbound } from '../isolation/outbound.ts'
import { settingKind } from './setting-kinds.ts'

/** The entry that allows everything, of lists of hosts and addresses. */
const ANY = '*'

/** @param defaultUser `postgres.user` of the configuration */
export function userRefusal(user: string, defaultUser: string, allow: AllowConfig): HowdahError | undefined {
  if (user === defaultUser || allow.users.includes(user)) return undefined
  return refused('user', `instances do not run as the user "${user}"`, 'users', user)
}

/** Everything else that a publish asks for and may not have; one error each. */
export function optionRefusals(options: TargetOptions, allow: AllowConfig): HowdahError[] {
  const { settings = {}, listen = [], allowOutbound = [] } = options
  return [
    ...Object.keys(settings).flatMap((name) => settingRefusal(name, allow) ?? []),
    ...listen
      .filter((address) => !isLoopback(address) && !isListed(address, allow.listen))
      .map((address) => refused('listen', `instances do not listen on "${address}"`, 'listen', address)),
    ...allowOutbound
      .filter((host) => !allowsHost(allow.outbound, parseOutbound(host)))
      .map((host) => refused('allowOutbound', `instances do not connect to "${host}"`, 'outbound', host)),
  ]
}

function settingRefusal(given: string, allow: AllowConfig): HowdahError | undefined {
  const name = given.toLowerCase()
  const kind = settingKind(name)
  if (kind === undefined || allow.settings.some((entry) => entry.toLowerCase() === name)) return undefined
  return refused(
    `settings.${given}`,
    `the setting ${name} ${kind}, and is not given by commands`,
    'settings',
    name,
  )
}

/** A directory is allowed below one that is listed, wherever the symbolic links in both lead. */
export async function destinationRefusal(
  destination: Destination,
  allow: AllowConfig,
): Promise<HowdahError | undefined> {
  if (destination.type === 'directory') {
    const { path } = destination
    const allowed = await Promise.all(allow.exportDirectories.map(physicalPath))
    const place = await physicalPath(path)
    if (allowed.some((directory) => isBelow(place, directory))) return undefined
    const where = place === normalize(path) ? '' : `, which is ${place},`
    return refused('destination.path', `exports do not go to "${path}"${where}`, 'exportDirectories', path)
  }
  const { type, host, port = type === 'sftp' ? 22 : 5432 } = destination
  if (allowsHost(allow.exportHosts, { host, port })) return undefined
  return refused('destination.host', `exports do not go to ${host}:${port}`, 'exportHosts', `${host}:${port}`)
}

function isListed(value: string, list: readonly string[]): boolean {
  return list.some((entry) => entry === ANY || entry.toLowerCase() === value.toLowerCase())
}

function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || (isIP(address) === 4 && address.startsWith('127.'))
}

type HostAndPort = Pick<OutboundRule, 'host' | 'port'>

/** An entry without a port allows all ports of its host; one with a port does not allow the host as a whole. */
function allowsHost(list: readonly string[], { host, port }: HostAndPort): boolean {
  return list.some((entry) => {
    if (entry === ANY) return true
    const allowed = parseOutbound(entry)
    return (
      allowed.host.toLowerCase() === host.toLowerCase() &&
      (allowed.port === undefined || allowed.port === port)
    )
  })
}

/** The path with its symbolic links resolved, as far as it exists. */
async function physicalPath(path: string): Promise<string> {
  const plain = normalize(path).replace(/(.)\/+$/, '$1')
  try {
    return await realpath(plain)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if ((code !== 'ENOENT' && code !== 'ENOTDIR') || plain === '/') throw error
    const above = await physicalPath(dirname(plain))
    return `${above === '/' ? '' : above}${plain.slice(dirname(plain) === '/' ? 0 : dirname(plain).length)}`
  }
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`)
}

function refused(field: string, what: string, key: keyof AllowConfig, value: string): HowdahError {
  return new HowdahError(
    'not_allowed',
    `On this target ${what}. Where that is wanted, its administrator adds "${value}" to allow.${key} in the configuration of the target agent.`,
    { field },
  )
}
