/** `howdah agent setup`: makes this host ready for an agent. */
import type { RepositoryConfig } from '../../../../config/formats.ts'
import type { AgentKind } from '../../../fleet/host/host-paths.ts'
import { setUpHost } from '../../../fleet/host/setup.ts'
import { parseBrokerUrl } from '../../options.ts'
import { parseRepository } from '../../up/repository-flags.ts'
import { UsageError } from '../../usage-error.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { hostExitStatus, kindOption, nameOption, openHost, printReport, reportOption } from './host-action.ts'

interface Options {
  readonly kind: AgentKind
  readonly name: string
  readonly broker: readonly string[]
  readonly advertise?: string
  readonly repository: readonly RepositoryConfig[]
  readonly json?: true
}

export const setup = defineVerb<Options>({
  name: 'agent setup',
  summary: 'make this host ready for an agent',
  description: [
    'Makes the system user, the directories with their modes, a service that starts the agent at boot, and its ' +
      'configuration where there is none; a configuration that exists is never changed. Starts nothing: "howdah agent ' +
      'request" and "accept" give the agent its certificate, and "howdah agent start" starts it.',
    'The service is a unit of systemd; where there is no systemd, an init script that runs howdah-supervise. Changes ' +
      'of a unit belong into a drop-in ("systemctl edit"). A unit that was edited itself is left as it is, and said so.',
  ],
  options: [
    kindOption,
    nameOption,
    {
      flags: '--broker <URL[,URL…]>',
      description:
        'The broker, all nodes of a cluster: amqps://host:5671/vhost, where the certificate of the agent says who it ' +
        'is; or with user and password, which other users of this machine can see there.',
      required: true,
      secret: true,
      parse: (text) => text.split(',').map(parseBrokerUrl),
    },
    {
      flags: '--advertise <ADDRESS>',
      description:
        'Of a mount agent: host name or address by which target servers reach it; it then listens on all addresses.',
    },
    {
      flags: '--repository <NAME=FORMAT:PATH>',
      description: 'Of a mount agent: a repository to serve, as for "howdah up".',
      repeatable: true,
      parse: parseRepository,
    },
    reportOption,
  ],
  exitStatus: hostExitStatus,
  environment: [],
  files: [
    ['/etc/howdah/target-agent.json', 'The configuration; mount-agent.json of a mount agent.'],
    ['/opt/howdah/VERSION', 'The programs; the link "current" names the version that runs.'],
    ['/var/lib/howdah/target-agent', 'The state; mount-agent of a mount agent.'],
    ['/var/log/howdah/target-agent.log', 'The log, where there is no journal of systemd.'],
  ],
  examples: [
    [
      'howdah agent setup --kind target --name db-7 --broker amqps://rabbitmq.example:5671/howdah',
      'A target.',
    ],
    [
      'howdah agent setup --kind mount --name backup-1 --broker amqps://rabbitmq.example:5671/howdah --advertise backup-1.example --repository prod=pgbackrest:/var/lib/pgbackrest',
      'A mount server.',
    ],
  ],
  run: runSetup,
})

async function runSetup({ context, options }: Call<Options>): Promise<number> {
  const { kind, name, broker: brokers, advertise, repository: repositories, json } = options
  if (kind === 'target' && (advertise !== undefined || repositories.length > 0))
    throw new UsageError('--advertise and --repository are for mount agents', setup)
  const { paths, supervisor } = openHost()
  const request = { kind, name, brokers, repositories, ...(advertise !== undefined && { advertise }) }
  printReport(context, await setUpHost(paths, supervisor, request), json)
  return 0
}
