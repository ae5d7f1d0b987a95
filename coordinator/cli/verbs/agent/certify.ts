/** `howdah agent certify`: has the coordinator sign what `howdah agent request` printed. */
import { text } from 'node:stream/consumers'
import type { AgentKind } from '../../../fleet/host/host-paths.ts'
import { printJson } from '../../context.ts'
import {
  askingOptions,
  type CommandOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  messageIdOption,
  parseName,
} from '../../options.ts'
import { sendCommand } from '../../request.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { kindOption } from './host-action.ts'

interface Options extends CommandOptions {
  readonly kind: AgentKind
  readonly name: string
  readonly address: readonly string[]
  readonly again?: true
}

export const certify = defineVerb<Options>({
  name: 'agent certify',
  summary: 'enrol an agent: have its certificate request signed',
  description: [
    'Reads a certificate request from standard input, has the coordinator sign it and make the user of the agent at ' +
      'the broker, and prints {"certificate": PEM, "ca": PEM} for "howdah agent accept". Operators only. ' +
      '"howdah agent install" does this, and the rest.',
  ],
  options: [
    kindOption,
    { flags: '--name <NAME>', description: 'Name of the agent.', required: true, parse: parseName },
    {
      flags: '--address <ADDRESS>',
      description: 'Of a mount agent: a host name or address by which target servers reach it.',
      repeatable: true,
    },
    { flags: '--again', description: 'Also if the agent was revoked.' },
    messageIdOption,
    ...askingOptions('a minute'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    [
      'ssh db-7 howdah agent request --kind target --name db-7 | howdah agent certify --kind target --name db-7 | ssh db-7 howdah agent accept --kind target',
      'By hand, over SSH.',
    ],
  ],
  run: runCertify,
})

async function runCertify({ context, options, deadline, connect }: Call<Options>): Promise<number> {
  const { kind, name, address: addresses, again = false, messageId } = options
  const csr = await text(process.stdin)
  await using connection = await connect()
  const body = {
    kind,
    name,
    csr,
    ...(addresses.length > 0 && { addresses: [...addresses] }),
    ...(again && { again }),
  }
  const sending = { deadline, options: messageId === undefined ? {} : { messageId } }
  const { certificate, ca } = await sendCommand(connection.bus, 'agent.certify', body, sending)
  printJson(context, { certificate, ca })
  return 0
}
