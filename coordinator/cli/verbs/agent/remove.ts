/** `howdah agent remove`: removes the agents of this host, and with the last one Howdah. */
import { agentsOfHost } from '../../../fleet/host/host-agents.ts'
import { removeAgents } from '../../../fleet/host/removal.ts'
import { type Call, defineVerb } from '../../verb.ts'
import {
  type AnyKindOptions,
  anyKindOption,
  hostExitStatus,
  openHost,
  printReport,
  reportOption,
} from './host-action.ts'

interface Options extends AnyKindOptions {
  readonly purge?: boolean
}

export const remove = defineVerb<Options>({
  name: 'agent remove',
  summary: "remove this host's agents, and with the last one Howdah",
  description: [
    'Stops the agents and removes their services; with the last agent also the programs. Refused while there ' +
      'are sessions here. What came by a Debian package is left to "apt purge howdah".',
    'The coordinator still knows the agent: "howdah forget" removes it there.',
  ],
  options: [
    anyKindOption,
    {
      flags: '--purge',
      description:
        'Also remove configuration, certificates and keys, state, logs, fetched copies and the system user.',
    },
    reportOption,
  ],
  exitStatus: hostExitStatus,
  environment: [],
  files: [],
  examples: [['howdah agent remove --purge', 'Nothing of Howdah is left on this host.']],
  run: runRemove,
})

async function runRemove({
  context,
  options: { kind, purge = false, json },
}: Call<Options>): Promise<number> {
  const { paths, supervisor } = openHost()
  const kinds = kind === undefined ? agentsOfHost(paths) : [kind]
  printReport(context, await removeAgents(paths, supervisor, { kinds, purge }), json)
  return 0
}
