/** `howdah agent request`: the certificate request of this host's agent. */
import { type AgentKind, identityFiles } from '../../../fleet/host/host-paths.ts'
import { requestCertificate } from '../../../fleet/host/identity.ts'
import { agentOwner } from '../../../fleet/host/system-user.ts'
import { printJson } from '../../context.ts'
import { jsonOption, parseName } from '../../options.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { hostExitStatus, kindOption, openHost } from './host-action.ts'

interface Options {
  readonly kind: AgentKind
  readonly name: string
  readonly address: readonly string[]
  readonly json?: true
}

export const request = defineVerb<Options>({
  name: 'agent request',
  summary: "print a certificate request for this host's agent",
  description: [
    "Prints a certificate request (PKCS #10, PEM) for the fleet's authority to sign. The private key is made here if " +
      'there is none, readable by the agent only; it never leaves this machine. "howdah agent accept" takes the answer.',
  ],
  options: [
    kindOption,
    {
      flags: '--name <NAME>',
      description: 'Name of the agent, as in its configuration.',
      required: true,
      parse: parseName,
    },
    {
      flags: '--address <ADDRESS>',
      description: 'Of a mount agent: a host name or address by which target servers reach it.',
      repeatable: true,
    },
    jsonOption('Print {"csr": …} as one JSON document.'),
  ],
  exitStatus: hostExitStatus,
  environment: [],
  files: [['/etc/howdah/tls/target-agent.key', 'The private key; mount-agent.key of a mount agent.']],
  examples: [['howdah agent request --kind target --name db-7', 'On the machine db-7.']],
  run: runRequest,
})

async function runRequest({ context, options }: Call<Options>): Promise<number> {
  const { kind, name, address: addresses } = options
  const files = identityFiles(openHost().paths, kind)
  const csr = await requestCertificate(files, { kind, name, addresses }, await agentOwner(kind))
  if (options.json === true) printJson(context, { csr })
  else context.stdout.write(csr)
  return 0
}
