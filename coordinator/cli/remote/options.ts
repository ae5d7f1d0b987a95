/** Options of the verbs that reach hosts over SSH. */
import { parseSshAddress, type SshAddress } from '../../fleet/ssh/address.ts'
import { InvalidValue } from '../usage-error.ts'
import type { Entry, OptionDescription } from '../verb-description.ts'

export interface SshOptions {
  /** `-J` */
  readonly J?: readonly SshAddress[]
  readonly fingerprint?: string
  readonly become?: 'sudo' | 'su'
}

export const sshOptions: readonly OptionDescription[] = [
  {
    flags: '-J <HOST[,HOST…]>',
    description: 'Jump hosts, each as [user@]host[:port], as "ssh -J" takes them.',
    defaultText: "ProxyJump of OpenSSH's configuration",
    parse: (text) => text.split(',').map(parseHost),
  },
  {
    flags: '--fingerprint <SHA256:…>',
    description:
      'The host key must have this fingerprint; nobody is asked. For scripts that meet a host for the first time.',
    parse: parseFingerprint,
  },
  {
    flags: '--become <HOW>',
    description: 'How a login that is not root becomes root: sudo or su.',
    choices: ['sudo', 'su'],
    defaultText: 'sudo where it is installed, else su',
    parse: parseBecome,
  },
]

export const sshEnvironment: readonly Entry[] = [
  ['SSH_AUTH_SOCK', 'The ssh-agent, whose keys are tried first.'],
]

export const sshFiles: readonly Entry[] = [
  [
    '~/.ssh/config, /etc/ssh/ssh_config',
    "OpenSSH's configuration: Host, HostName, Port, User, IdentityFile, IdentitiesOnly, IdentityAgent, ProxyJump, " +
      'UserKnownHostsFile, GlobalKnownHostsFile, HashKnownHosts, HostKeyAlias, StrictHostKeyChecking and Include. ' +
      'ProxyCommand and "Match exec" are not run.',
  ],
  ['~/.ssh/known_hosts', 'Host keys; a new one is added when it was confirmed, a changed one is refused.'],
]

/** What each verb over SSH says of logins. */
export const SSH_DESCRIPTION =
  'HOST is [user@]host[:port] or a Host of ~/.ssh/config. Keys of the ssh-agent and key files are tried first, then a ' +
  'password is asked for. A login that is not root becomes root by sudo or su, whose password is asked for once. ' +
  'Passwords and passphrases are kept in memory only, and never given to a program as an argument.'

/** @throws InvalidValue */
export function parseHost(text: string): SshAddress {
  const address = parseSshAddress(text)
  if (address === undefined)
    throw new InvalidValue('like user@db-7.example, db-7:2222 or user@[2001:db8::7]:22')
  return address
}

function parseFingerprint(text: string): string {
  if (!/^SHA256:[A-Za-z0-9+/]{43}=?$/.test(text))
    throw new InvalidValue('a fingerprint like SHA256:…, as "ssh-keygen -l" prints it')
  return text
}

function parseBecome(text: string): 'sudo' | 'su' {
  if (text !== 'sudo' && text !== 'su') throw new InvalidValue('sudo or su')
  return text
}
