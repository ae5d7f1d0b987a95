/** `howdah certificates`: creates and renews the certificates of the data plane, for agents that run on several machines. */
import path from 'node:path'
import { ensureCertificates } from '../../fleet/authority/certificates.ts'
import type { Identity } from '../../fleet/authority/identity.ts'
import { printJson } from '../context.ts'
import { jsonOption, parseName } from '../options.ts'
import { InvalidValue } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface Options {
  readonly directory: string
  readonly mount: readonly Identity[]
  readonly target: readonly Identity[]
  readonly json?: true
}

export const certificates = defineVerb<Options>({
  name: 'certificates',
  summary: 'create or renew the certificates of the agents',
  description: [
    'Creates a certificate authority and one certificate per agent, with which mount agents and target agents ' +
      'authenticate each other on the data plane. Safe to repeat: valid files are kept; a certificate that ' +
      'expires within 30 days, or whose addresses have changed, is issued again.',
    'Copy ca.pem and the two files of an agent to its machine and name them in its configuration (tls.ca, ' +
      'tls.certificate, tls.key). Keep ca.key here or in a safe place: anybody who has it can issue certificates ' +
      'for agents.',
  ],
  options: [
    {
      flags: '--directory <DIR>',
      description: 'Directory of the files; created if it does not exist.',
      required: true,
      parse: (text) => path.resolve(text),
    },
    {
      flags: '--mount <NAME=ADDRESS[,ADDRESS…]>',
      description: 'A mount agent, with the host names and addresses by which target servers reach it.',
      repeatable: true,
      parse: parseMount,
    },
    {
      flags: '--target <NAME>',
      description: 'A target agent.',
      repeatable: true,
      parse: (text) => ({ kind: 'target', name: parseName(text), addresses: [] }),
    },
    jsonOption('Print {"certificates": [{"ca", "cert", "key"}, …]}, in the order of the flags.'),
  ],
  exitStatus: [
    ['0', 'Done.'],
    ['1', 'A file could not be read or written; the message says which.'],
    ['2', 'Wrong usage; nothing was done.'],
  ],
  environment: [],
  files: [
    ['DIR/ca.pem, DIR/ca.key', 'The certificate authority.'],
    [
      'DIR/mount-NAME.pem, DIR/mount-NAME.key',
      'Certificate and key of a mount agent; target-NAME for a target agent.',
    ],
  ],
  examples: [
    [
      'howdah certificates --directory tls --mount backup-1=backup-1.example,10.0.0.5 --target db-7 --target db-8',
      'One mount server and two targets.',
    ],
  ],
  run: runCertificates,
})

async function runCertificates({ context, options }: Call<Options>): Promise<number> {
  const identities = [...options.mount, ...options.target]
  const made = await ensureCertificates(options.directory, {
    identities,
    warn: (text) => context.stderr.line(text),
  })
  if (options.json === true) printJson(context, { certificates: made })
  else for (const { cert, key } of made) context.stdout.line(`${cert}  ${key}`)
  return 0
}

function parseMount(text: string): Identity {
  const [name = '', addresses = ''] = text.split('=', 2)
  const list = addresses.split(',').filter((address) => address !== '')
  if (list.length === 0) throw new InvalidValue('like backup-1=backup-1.example,10.0.0.5')
  return { kind: 'mount', name: parseName(name), addresses: list }
}
