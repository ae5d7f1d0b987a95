/** Where an agent's host has its files: the programs, the configuration, the state. Touches none of them. */
import path from 'node:path'

export type AgentKind = 'mount' | 'target'
export type AgentRole = 'mount-agent' | 'target-agent'

export const AGENT_KINDS: readonly AgentKind[] = ['mount', 'target']

/** The system user that mount agents run as. */
export const SYSTEM_USER = 'howdah'

export interface HostPaths {
  /** One directory per installed version, and the links `current` and `previous`. */
  readonly programs: string
  /** The command that is on everybody's PATH, a link to that of the current version. */
  readonly command: string
  /** That of a package. */
  readonly packagedCommand: string
  readonly configuration: string
  readonly tls: string
  readonly state: string
  /** Process ids and locks of agents without systemd; gone after a reboot. */
  readonly run: string
  /** Logs of agents without systemd. */
  readonly log: string
  /** Units of software that came by no package; systemd.unit(5), "Unit File Load Path". */
  readonly units: string
  /** Units of software that came by a package. */
  readonly packagedUnits: string
  /** Exists where systemd is process 1. */
  readonly systemd: string
  readonly initScripts: string
  /** The configuration of RabbitMQ. */
  readonly broker: string
}

/** @param root of the host's file system; another than `/` in tests */
export function hostPaths(root = '/'): HostPaths {
  const at = (absolute: string) => path.join(root, absolute)
  return {
    programs: at('/opt/howdah'),
    command: at('/usr/local/bin/howdah'),
    packagedCommand: at('/usr/bin/howdah'),
    configuration: at('/etc/howdah'),
    tls: at('/etc/howdah/tls'),
    state: at('/var/lib/howdah'),
    run: at('/run/howdah'),
    log: at('/var/log/howdah'),
    units: at('/usr/local/lib/systemd/system'),
    packagedUnits: at('/usr/lib/systemd/system'),
    systemd: at('/run/systemd/system'),
    initScripts: at('/etc/init.d'),
    broker: at('/etc/rabbitmq'),
  }
}

export function roleOf(kind: AgentKind): AgentRole {
  return `${kind}-agent`
}

export function configurationFile(paths: HostPaths, kind: AgentKind): string {
  return path.join(paths.configuration, `${roleOf(kind)}.json`)
}

export interface IdentityFiles {
  /** Certificate of the fleet's authority. */
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

export function identityFiles(paths: HostPaths, kind: AgentKind): IdentityFiles {
  const base = path.join(paths.tls, roleOf(kind))
  return { ca: path.join(paths.tls, 'ca.pem'), certificate: `${base}.pem`, key: `${base}.key` }
}
