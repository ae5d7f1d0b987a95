/** `howdah agent accept`: installs the certificate that the fleet's authority signed for this host's agent. */
import { text } from 'node:stream/consumers'
import { z } from 'zod'
import { HowdahError } from '../../../../messages/errors.ts'
import { type AgentKind, identityFiles } from '../../../fleet/host/host-paths.ts'
import { acceptCertificate, type SignedIdentity } from '../../../fleet/host/identity.ts'
import { agentOwner } from '../../../fleet/host/system-user.ts'
import { printJson } from '../../context.ts'
import { jsonOption } from '../../options.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { hostExitStatus, kindOption, openHost } from './host-action.ts'

interface Options {
  readonly kind: AgentKind
  readonly json?: true
}

const Signed = z.object({ certificate: z.string(), ca: z.string() })

export const accept = defineVerb<Options>({
  name: 'agent accept',
  summary: "install the certificate of this host's agent",
  description: [
    'Reads {"certificate": PEM, "ca": PEM} from standard input, as the authority answers a request, checks that the ' +
      "certificate is for this host's key, and installs both. A running agent takes it at its next connection.",
  ],
  options: [kindOption, jsonOption('Print {"changed": [FILE, …]} as one JSON document.')],
  exitStatus: hostExitStatus,
  environment: [],
  files: [
    ['/etc/howdah/tls/ca.pem', "The certificate of the fleet's authority."],
    ['/etc/howdah/tls/target-agent.pem', 'The certificate; mount-agent.pem of a mount agent.'],
  ],
  examples: [['howdah agent accept --kind target < signed.json', 'Install the answer of the authority.']],
  run: runAccept,
})

async function runAccept({ context, options: { kind, json } }: Call<Options>): Promise<number> {
  const signed = parse(await text(process.stdin))
  const files = identityFiles(openHost().paths, kind)
  const changed = await acceptCertificate(files, kind, signed, await agentOwner(kind))
  if (json === true) printJson(context, { changed })
  else for (const file of changed) context.stdout.line(file)
  return 0
}

function parse(input: string): SignedIdentity {
  try {
    return Signed.parse(JSON.parse(input))
  } catch (cause) {
    throw new HowdahError(
      'configuration',
      'standard input must be {"certificate": PEM, "ca": PEM}, as JSON',
      { cause },
    )
  }
}
