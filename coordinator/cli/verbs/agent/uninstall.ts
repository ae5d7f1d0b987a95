/** `howdah agent uninstall`: removes agents from a server and from the fleet. */
import type { AgentKind } from '../../../fleet/host/host-paths.ts'
import { checkHost } from '../../../fleet/install/host-check.ts'
import { uninstallHost } from '../../../fleet/install/uninstall.ts'
import { printJson } from '../../context.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
} from '../../options.ts'
import { removingFleetOf } from '../../remote/fleet.ts'
import { hostAccess, hostsOf, rootOf } from '../../remote/host.ts'
import { forgetHost } from '../../remote/inventory.ts'
import {
  SSH_DESCRIPTION,
  type SshOptions,
  sshEnvironment,
  sshFiles,
  sshOptions,
} from '../../remote/options.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { kindOption } from './host-action.ts'

interface Options extends SshOptions, ClientOptions {
  readonly kind?: AgentKind
  readonly force?: true
}

export const uninstall = defineVerb<Options>({
  name: 'agent uninstall',
  summary: 'remove agents from a server over SSH, and from the fleet',
  description: [
    'Stops the agents of a server and removes everything of them there: programs, service, configuration, key and ' +
      'certificate, state, logs, and the system user. Then they are revoked, so that a copy of the key is worth nothing, and ' +
      'the coordinator forgets them. Refused while the target has sessions.',
    'An agent of the same name can be installed again with "howdah agent install --again".',
    SSH_DESCRIPTION,
  ],
  arguments: [{ name: 'HOST', required: true, description: 'The server.' }],
  options: [
    {
      ...kindOption,
      required: false,
      description: 'target or mount: only this agent of the server.',
      defaultText: 'all that are there',
    },
    {
      flags: '--force',
      description: 'Unpublish the sessions of a target first, and discard what was changed in them.',
    },
    ...sshOptions,
    jsonOption(
      'Print {"host", "removed": [{"kind", "name"}, …]} as one JSON document; progress goes to stderr.',
    ),
    ...askingOptions('none'),
  ],
  exitStatus: clientExitStatus,
  environment: [...sshEnvironment, ...clientEnvironment],
  files: [...sshFiles, ...clientFiles],
  examples: [['howdah agent uninstall ops@db-7.example', 'Nothing of Howdah is left there.']],
  run: runUninstall,
})

async function runUninstall({
  context,
  options,
  argument,
  deadline,
  connect,
}: Call<Options>): Promise<number> {
  const [address] = hostsOf([argument], uninstall)
  if (address === undefined) return 2
  const remarks = options.json === true ? context.stderr : context.stdout
  const signal = deadline.signal
  await using connection = await connect()
  await using host = await hostAccess(context, signal).open(address, options)
  const { connection: ssh, root, rootProblem } = host
  const { facts } = await checkHost({
    ...{
      connection: ssh,
      root,
      rootProblem,
      kind: options.kind,
      reach: [],
      neededBytes: 0,
      now: context.now,
      signal,
    },
  })
  const removed = await uninstallHost({
    ...{
      host: ssh.name,
      root: rootOf(host),
      facts,
      kind: options.kind,
      force: options.force === true,
      signal,
    },
    fleet: removingFleetOf(connection.bus, deadline),
    progress: (text) => remarks.line(text),
  })
  for (const agent of removed) forgetHost(context.env, agent)
  if (options.json === true) printJson(context, { host: ssh.name, removed })
  else if (removed.length === 0) context.stdout.line('No agent was there.')
  else for (const { kind, name } of removed) context.stdout.line(`Removed the ${kind} agent "${name}".`)
  return 0
}
