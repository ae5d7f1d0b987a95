/** `howdah agent install`: installs an agent on a server over SSH, from the first login until it is online. */
import { HowdahError } from '../../../../messages/errors.ts'
import type { AgentKind } from '../../../fleet/host/host-paths.ts'
import { checkHost } from '../../../fleet/install/host-check.ts'
import {
  type AgentRequest,
  type Installation,
  installAgent,
  planOf,
} from '../../../fleet/install/install-agent.ts'
import { type BrokerConnection, printJson } from '../../context.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  parseBrokerUrl,
} from '../../options.ts'
import { bundleOption, findBundle } from '../../remote/bundle.ts'
import { firstCheck, onlineDataPlanes } from '../../remote/first-check.ts'
import { fleetOf } from '../../remote/fleet.ts'
import { hostAccess, hostsOf, rootOf, shownHost } from '../../remote/host.ts'
import { rememberHost } from '../../remote/inventory.ts'
import {
  SSH_DESCRIPTION,
  type SshOptions,
  sshEnvironment,
  sshFiles,
  sshOptions,
} from '../../remote/options.ts'
import { stepLines } from '../../remote/step-lines.ts'
import { parseRepository } from '../../up/repository-flags.ts'
import { InvalidValue, UsageError } from '../../usage-error.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { findingLines, NEEDED_BYTES, problemOf } from './check.ts'
import { kindOption, nameOption } from './host-action.ts'

interface Options extends SshOptions, ClientOptions {
  readonly kind: AgentKind
  readonly name: string
  readonly agentBroker?: readonly string[]
  readonly advertise?: string
  readonly repository: readonly string[]
  readonly bundle?: string
  readonly again?: true
  readonly dryRun?: true
}

const ONLINE_MS = 90_000

export const install = defineVerb<Options>({
  name: 'agent install',
  summary: 'install an agent on a server over SSH, or upgrade it',
  description: [
    'Checks the server, uploads the bundle, which needs neither a network nor npm there, sets up user, directories, ' +
      'service and configuration, has the coordinator sign a certificate for a key that is made on the server and ' +
      'stays there, starts the agent, waits until it is online, asks for a first check through it, and prints the line ' +
      'that publishes there.',
    'Safe to repeat: what is done is not done again, an upload that was cut off goes on where it ended, and an agent of ' +
      'another version is upgraded, during which published instances stay up. A failure says what state the server is in.',
    SSH_DESCRIPTION,
  ],
  arguments: [{ name: 'HOST', required: true, description: 'The server.' }],
  options: [
    kindOption,
    nameOption,
    {
      flags: '--agent-broker <URL[,URL…]>',
      description:
        'The broker as the server reaches it, all nodes of a cluster: amqps://host:5671/vhost. The agent logs in by its certificate.',
      defaultText: 'the broker of this command, if that is reached by amqps://',
      parse: parseAgentBrokers,
    },
    {
      flags: '--advertise <ADDRESS>',
      description: 'Of a mount agent: host name or address by which target servers reach it.',
      defaultText: 'HOST',
    },
    {
      flags: '--repository <NAME=FORMAT:PATH>',
      description:
        'Of a mount agent: a repository to serve, as for "howdah up". Taken for a new configuration only.',
      repeatable: true,
      parse: (text) => {
        parseRepository(text)
        return text
      },
    },
    bundleOption,
    { flags: '--again', description: 'Enrol the agent again although it was revoked.' },
    { flags: '--dry-run', description: 'Check the server, print what would be done, and change nothing.' },
    ...sshOptions,
    jsonOption(
      'Print {"host", "kind", "name", "version", "changed": [STEP, …], "publish"} as one JSON document; progress goes to stderr.',
    ),
    ...askingOptions('none'),
  ],
  exitStatus: clientExitStatus,
  environment: [...sshEnvironment, ...clientEnvironment],
  files: [
    ...sshFiles,
    [
      '$XDG_CONFIG_HOME/howdah/hosts.json',
      'Where agents were installed, for "howdah agent upgrade --all". Holds no secret. Default: ~/.config.',
    ],
    ...clientFiles,
  ],
  examples: [
    ['howdah agent install --kind target --name db-7 ops@db-7.example', 'A target server.'],
    [
      'howdah agent install --kind mount --name backup-1 root@backup-1.example --repository prod=pgbackrest:/var/lib/pgbackrest',
      'A mount server with its repository.',
    ],
  ],
  run: runInstall,
})

async function runInstall({ context, options, argument, deadline, connect }: Call<Options>): Promise<number> {
  const { kind, name } = options
  const [address] = hostsOf([argument], install)
  if (address === undefined) return 2
  if (kind === 'target' && (options.advertise !== undefined || options.repository.length > 0))
    throw new UsageError('--advertise and --repository are for mount agents', install)
  const bundle = await findBundle(options.bundle)
  await using connection = await connect()
  const brokers = options.agentBroker ?? brokersFor(connection)
  const remarks = options.json === true ? context.stderr : context.stdout
  const signal = deadline.signal
  await using host = await hostAccess(context, signal).open(address, options)
  const { root, rootProblem, connection: ssh } = host
  const { facts, findings } = await checkHost({
    ...{ connection: ssh, root, rootProblem, kind, neededBytes: NEEDED_BYTES, now: context.now, signal },
    reach: [
      ...brokers.map(brokerAddress),
      ...(kind === 'target' ? await onlineDataPlanes(connection.bus, deadline) : []),
    ],
  })
  const problem = problemOf(shownHost(address), findings)
  for (const line of findingLines(
    { stdout: remarks },
    problem ? findings : findings.filter(({ level }) => level !== 'ok'),
  ))
    remarks.line(line)
  if (problem !== undefined) throw new HowdahError(problem.code, problem.message)
  const request: AgentRequest = {
    ...{ kind, name, brokers, repositories: options.repository },
    advertise: kind === 'mount' ? (options.advertise ?? ssh.settings.host) : undefined,
  }
  const installation: Installation = {
    ...{ host: ssh.name, root: rootOf(host), facts, bundle, request, signal, onlineMs: ONLINE_MS },
    fleet: fleetOf(connection.bus, deadline, options.again === true),
    narrator: stepLines(remarks),
  }
  if (options.dryRun === true) {
    const plan = planOf(installation)
    if (options.json === true)
      printJson(context, { host: ssh.name, kind, name, version: bundle.version, plan })
    else for (const [index, step] of plan.entries()) context.stdout.line(`${index + 1}. ${step}`)
    return 0
  }
  const { changed } = await installAgent(installation)
  rememberHost(context.env, {
    kind,
    name,
    host: argument,
    ...(options.J && { jumps: options.J.map(shownHost) }),
  })
  const { publish, remarks: checked } = await firstCheck(connection.bus, request, deadline)
  if (options.json === true)
    printJson(context, { host: ssh.name, kind, name, version: bundle.version, changed, publish })
  else {
    for (const line of checked) context.stdout.line(line)
    context.stdout.line(
      changed.length === 0 ? 'Nothing was to be done. To publish there:' : 'Done. To publish there:',
    )
    context.stdout.line(`  ${publish}`)
  }
  return 0
}

function parseAgentBrokers(text: string): readonly string[] {
  return text.split(',').map((url) => {
    parseBrokerUrl(url)
    const { protocol, username, password } = new URL(url)
    if (protocol !== 'amqps:' || username !== '' || password !== '')
      throw new InvalidValue('like amqps://rabbitmq.example:5671/howdah, without user and password')
    return url
  })
}

/** The broker of the operator as agents use it. @throws UsageError when it is none for other machines */
function brokersFor({ urls }: BrokerConnection): readonly string[] {
  const usable = urls.filter((url) => {
    const { protocol, hostname } = new URL(url)
    return protocol === 'amqps:' && !/^(localhost|127\..*|\[::1\])$/.test(hostname)
  })
  if (usable.length > 0) return usable
  throw new UsageError(
    'agents on other servers need the broker by TLS, and this command reaches it otherwise: give --agent-broker amqps://HOST:5671/VHOST',
    install,
  )
}

function brokerAddress(url: string) {
  const { hostname, port } = new URL(url)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? 5671 : Number(port) }
}
