/** What the actions of `howdah agent` on the agent's own machine have in common. */
import { AGENT_KINDS, type AgentKind } from '../../../fleet/host/host-paths.ts'
import { InvalidValue } from '../../usage-error.ts'
import type { Entry, OptionDescription } from '../../verb-description.ts'

export const kindOption: OptionDescription = {
  flags: '--kind <KIND>',
  description: 'target or mount.',
  required: true,
  choices: AGENT_KINDS,
  parse: parseKind,
}

function parseKind(text: string): AgentKind {
  const kind = AGENT_KINDS.find((one) => one === text)
  if (kind === undefined) throw new InvalidValue(AGENT_KINDS.join(' or '))
  return kind
}

export const hostExitStatus: readonly Entry[] = [
  ['0', 'Done.'],
  ['1', 'Failed; the reason and its code are on stderr, and with --json on stdout as {"error": …}.'],
  ['2', 'Wrong usage; nothing was done.'],
]
