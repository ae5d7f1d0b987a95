/**
 * What OpenSSH's client configuration says about a host: ~/.ssh/config, then /etc/ssh/ssh_config; the first value of a
 * keyword counts, as in ssh_config(5). Keywords that concern no installation are ignored. No program is ever run for a
 * `Match exec`: such a section counts as not matching, with a note.
 */
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import SSHConfig from 'ssh-config'
import { HowdahError } from '../../../messages/errors.ts'
import type { SshAddress } from './address.ts'

export interface HostSettings {
  /** The name under which the host was asked for. */
  readonly alias: string
  /** Where to connect. */
  readonly host: string
  readonly port: number
  readonly user: string
  /** Absolute, those of the configuration or OpenSSH's default names; they need not exist. */
  readonly identityFiles: readonly string[]
  /** Of the ssh-agent use only the keys that `identityFiles` names. */
  readonly identitiesOnly: boolean
  /** Socket of the ssh-agent; undefined: none. */
  readonly agentSocket: string | undefined
  /** In the order of the hops, as `user@host:port`. */
  readonly jumps: readonly string[]
  /** New keys are written to the first one. */
  readonly userKnownHostsFiles: readonly string[]
  readonly globalKnownHostsFiles: readonly string[]
  readonly hashKnownHosts: boolean
  /** The name of the host in known_hosts. */
  readonly hostKeyAlias: string | undefined
  /** What becomes of an unknown key: asked about, refused, or accepted without asking. A changed key is refused always. */
  readonly unknownHostKey: 'ask' | 'refuse' | 'accept'
  /** What the operator should know about this configuration. */
  readonly notes: readonly string[]
}

export interface ConfigurationOptions {
  readonly home: string
  /** Of the person at this machine; the default for the remote one. */
  readonly user: string
  readonly env: NodeJS.ProcessEnv
  /** In the order in which they count. Default: OpenSSH's own. */
  readonly files?: readonly string[]
}

const DEFAULT_IDENTITIES = ['id_rsa', 'id_ecdsa', 'id_ed25519']
const MAX_INCLUDES = 16

/** @throws HowdahError `configuration`: a keyword that cannot be done without is not supported, or a file is unreadable */
export function hostSettings(address: SshAddress, options: ConfigurationOptions): HostSettings {
  const { home, env } = options
  const files = options.files ?? [path.join(home, '.ssh/config'), '/etc/ssh/ssh_config']
  const text = files.map((file) => readConfiguration(file, options, 0)).join('\n')
  const values = compute(text, address)
  const one = (keyword: string): string | undefined => [values[keyword.toLowerCase()] ?? []].flat()[0]
  const all = (keyword: string): string[] =>
    [values[keyword.toLowerCase()] ?? []].flat().flatMap((value) => value.split(/\s+/).filter(Boolean))

  const user = address.user ?? one('User') ?? options.user
  const port = address.port ?? portOf(one('Port'), address.host)
  const host = expand(one('HostName') ?? address.host, { h: address.host })
  const tokens = { h: host, n: address.host, p: String(port), r: user, u: options.user, d: home }
  const file = (value: string): string =>
    path.resolve(home, '.ssh', expand(untilde(value, home), tokens, env))

  const jumps = one('ProxyJump')
  const command = values.proxycommand
  if (jumps === undefined && command !== undefined && [command].flat().join(' ') !== 'none')
    throw new HowdahError(
      'configuration',
      `OpenSSH's configuration reaches ${address.host} by ProxyCommand, which Howdah does not run. Use ProxyJump there, or give the jump host with -J.`,
    )
  const identities = [values.identityfile ?? []].flat().filter((value) => value !== 'none')
  const agent = one('IdentityAgent')
  return {
    ...{ alias: address.host, host, port, user },
    identityFiles:
      values.identityfile === undefined
        ? DEFAULT_IDENTITIES.map((name) => path.join(home, '.ssh', name))
        : [...new Set(identities.map(file))],
    identitiesOnly: one('IdentitiesOnly')?.toLowerCase() === 'yes',
    agentSocket: agentSocketOf(agent, env, file),
    jumps: jumps === undefined || jumps === 'none' ? [] : jumps.split(','),
    userKnownHostsFiles: (all('UserKnownHostsFile').length > 0
      ? all('UserKnownHostsFile')
      : ['~/.ssh/known_hosts', '~/.ssh/known_hosts2']
    ).map(file),
    globalKnownHostsFiles: (all('GlobalKnownHostsFile').length > 0
      ? all('GlobalKnownHostsFile')
      : ['/etc/ssh/ssh_known_hosts', '/etc/ssh/ssh_known_hosts2']
    ).map(file),
    hashKnownHosts: one('HashKnownHosts')?.toLowerCase() === 'yes',
    hostKeyAlias: one('HostKeyAlias'),
    unknownHostKey: unknownHostKey(one('StrictHostKeyChecking')),
    notes: /^\s*Match\b.*\bexec\b/im.test(text)
      ? ['OpenSSH\'s configuration has "Match exec", which Howdah does not run: those sections are ignored.']
      : [],
  }
}

type Values = Readonly<Record<string, string | string[] | undefined>>

function compute(text: string, { host, user }: SshAddress): Values {
  // Canonical names would take the library a program to look up, and `exec` a shell.
  const config = SSHConfig.parse(text.replace(/^\s*(Canonicalize\w*|CanonicalDomains)\b.*$/gim, ''))
  return config.compute(
    { Host: host, ...(user !== undefined && { User: user }) },
    { ignoreCase: true, matchExec: false },
  ) as Values
}

/** The text of a file with those that it includes; a file that does not exist is empty. */
function readConfiguration(file: string, options: ConfigurationOptions, depth: number): string {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return ''
    throw new HowdahError(
      'configuration',
      `OpenSSH's configuration cannot be read: ${(error as Error).message}`,
    )
  }
  return text
    .split('\n')
    .map((line) => {
      const [, included] = /^\s*Include(?:\s*=\s*|\s+)(.+)$/i.exec(line) ?? []
      if (included === undefined || depth >= MAX_INCLUDES) return included === undefined ? line : ''
      const words = [...included.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? '')
      const directory = file.startsWith(options.home) ? path.join(options.home, '.ssh') : '/etc/ssh'
      return words
        .flatMap((word) => globSync(path.resolve(directory, untilde(word, options.home))).sort())
        .map((found) => readConfiguration(found, options, depth + 1))
        .join('\n')
    })
    .join('\n')
}

function portOf(text: string | undefined, host: string): number {
  const port = Number(text ?? 22)
  if (Number.isInteger(port) && port > 0 && port <= 65535) return port
  throw new HowdahError('configuration', `OpenSSH's configuration has no valid Port for ${host}: ${text}`)
}

function unknownHostKey(checking: string | undefined): HostSettings['unknownHostKey'] {
  const value = checking?.toLowerCase()
  if (value === 'yes') return 'refuse'
  // A changed key is refused all the same: "no" would not do that, and is not for root on a server.
  return value === 'accept-new' || value === 'no' || value === 'off' ? 'accept' : 'ask'
}

function agentSocketOf(
  agent: string | undefined,
  env: NodeJS.ProcessEnv,
  file: (value: string) => string,
): string | undefined {
  if (agent === 'none') return undefined
  const fromEnvironment = env.SSH_AUTH_SOCK === '' ? undefined : env.SSH_AUTH_SOCK
  if (agent === undefined || agent === 'SSH_AUTH_SOCK') return fromEnvironment
  const [, name] = /^\$(\w+)$/.exec(agent) ?? []
  return name === undefined ? file(agent) : env[name]
}

function untilde(value: string, home: string): string {
  return value === '~' || value.startsWith('~/') ? path.join(home, value.slice(1)) : value
}

/** Tokens as in ssh_config(5), "TOKENS"; an unknown one stays as it is. */
function expand(
  value: string,
  tokens: Readonly<Record<string, string>>,
  env: NodeJS.ProcessEnv = {},
): string {
  return value
    .replace(/%(.)/g, (token, letter: string) => (letter === '%' ? '%' : (tokens[letter] ?? token)))
    .replace(/\$\{(\w+)\}/g, (variable, name: string) => env[name] ?? variable)
}
