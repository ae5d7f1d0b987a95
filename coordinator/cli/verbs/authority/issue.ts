/** `howdah authority issue`: the certificate, with its key, of somebody who is not enrolled by the coordinator. */
import path from 'node:path'
import { ensureCertificates } from '../../../fleet/authority/certificates.ts'
import type { Identity } from '../../../fleet/authority/identity.ts'
import { printJson } from '../../context.ts'
import { jsonOption, parseName } from '../../options.ts'
import { InvalidValue, UsageError } from '../../usage-error.ts'
import { type Call, defineVerb } from '../../verb.ts'
import {
  type AuthorityOptions,
  authorityExitStatus,
  authorityFiles,
  directoryOption,
} from './authority-directory.ts'

interface Options extends AuthorityOptions {
  readonly address: readonly string[]
}

const KINDS = ['coordinator', 'client', 'operator', 'broker', 'mount', 'target'] as const
/** Who is reached by addresses, which its certificate must carry. */
const SERVERS: readonly string[] = ['broker', 'mount']

export const issue = defineVerb<Options>({
  name: 'authority issue',
  summary: 'make a certificate of the coordinator, a client, an operator, or a broker',
  description: [
    'Makes a key and a certificate that the authority signs. Copy ca.pem and both files to the machine of their owner. ' +
      'Safe to repeat: files that are valid are kept; a certificate that expires within 30 days, or whose addresses ' +
      'have changed, is issued again.',
    'Agents are enrolled by the coordinator instead ("howdah agent install"): their keys are made where they run and ' +
      'stay there, and their certificates are renewed by themselves.',
  ],
  arguments: [
    { name: 'KIND', required: true, description: 'Whose it is.', choices: KINDS },
    { name: 'NAME', required: false, description: 'Name of the owner; the coordinator has none.' },
  ],
  options: [
    directoryOption,
    {
      flags: '--address <ADDRESS>',
      description: 'Host name or IP address by which a broker or a mount agent is reached.',
      repeatable: true,
      parse: parseAddress,
    },
    jsonOption('Print {"ca", "cert", "key"}.'),
  ],
  exitStatus: authorityExitStatus,
  environment: [],
  files: [
    ...authorityFiles,
    ['DIR/KIND-NAME.pem, DIR/KIND-NAME.key', 'Certificate and key; coordinator.pem of the coordinator.'],
  ],
  examples: [
    [
      'howdah authority issue broker rabbit-1 --address rabbit-1.example --directory authority',
      'For ssl_options of rabbitmq.conf.',
    ],
    ['howdah authority issue operator alice --directory authority', 'A person who enrols agents.'],
  ],
  run: runIssue,
})

async function runIssue(call: Call<Options>): Promise<number> {
  const { context, options } = call
  const [made] = await ensureCertificates(options.directory, {
    identities: [identityOf(call)],
    warn: (text) => context.stderr.line(text),
  })
  if (options.json === true) printJson(context, { ...made })
  else context.stdout.line(`${made?.cert}  ${made?.key}`)
  return 0
}

function identityOf({ argument, further: [name], options: { address } }: Call<Options>): Identity {
  const kind = KINDS.find((one) => one === argument)
  if (kind === undefined)
    throw new UsageError(`there is no KIND "${argument}"; there are ${KINDS.join(', ')}`, issue)
  if ((name === undefined) !== (kind === 'coordinator')) {
    throw new UsageError(
      kind === 'coordinator' ? 'the coordinator has no NAME' : `a ${kind} needs a NAME`,
      issue,
    )
  }
  if (address.length > 0 !== SERVERS.includes(kind)) {
    throw new UsageError(
      `--address is for a broker and a mount agent, which ${address.length > 0 ? 'this is not' : 'need one'}`,
      issue,
    )
  }
  return { kind, name: name === undefined ? kind : named(name), addresses: address }
}

function named(text: string): string {
  try {
    return parseName(text)
  } catch (error) {
    if (error instanceof InvalidValue) throw new UsageError(`NAME: must be ${error.message}`, issue)
    throw error
  }
}

function parseAddress(text: string): string {
  if (/^[A-Za-z0-9_:][A-Za-z0-9._:-]*$/.test(text) && text === path.basename(text)) return text
  throw new InvalidValue('a host name or an IP address')
}
