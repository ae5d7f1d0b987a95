/** Which hosts a verb for several of them works on: those that are named, or all on which this operator installed agents. */
import type { SshAddress } from '../../fleet/ssh/address.ts'
import type { Context } from '../context.ts'
import { UsageError } from '../usage-error.ts'
import type { ArgumentDescription, OptionDescription, VerbDescription } from '../verb-description.ts'
import { hostsOf } from './host.ts'
import { installedHosts, inventoryFile } from './inventory.ts'
import { parseHost, type SshOptions } from './options.ts'

export interface ChosenHost {
  readonly address: SshAddress
  /** Those of the inventory; undefined: those of the command line or of OpenSSH's configuration. */
  readonly jumps: readonly SshAddress[] | undefined
}

export const hostsArgument: ArgumentDescription = {
  name: 'HOST...',
  required: false,
  description: 'The servers.',
}

export const allOption: OptionDescription = {
  flags: '--all',
  description: 'All servers on which you installed agents, as ~/.config/howdah/hosts.json lists them.',
}

/** @throws UsageError: none, or both */
export function chosenHosts(
  context: Context,
  words: readonly string[],
  { all }: SshOptions & { readonly all?: true },
  verb: VerbDescription,
): ChosenHost[] {
  if ((all === true) === words.length > 0) throw new UsageError('name servers, or give --all', verb)
  if (all !== true) return hostsOf(words, verb).map((address) => ({ address, jumps: undefined }))
  const known = new Map(installedHosts(context.env).map(({ host, jumps }) => [host, jumps]))
  if (known.size === 0) throw new UsageError(`${inventoryFile(context.env)} lists no server; name them`, verb)
  return [...known].map(([host, jumps]) => ({ address: parseHost(host), jumps: jumps?.map(parseHost) }))
}
