/** `howdah agent invite`: a token with which a host joins the fleet by itself. */
import { randomBytes, randomUUID } from 'node:crypto'
import { INVITATION_SECONDS } from '../../../../messages/enrolment.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import { invitedUser } from '../../../../messages/permissions.ts'
import type { AgentKind } from '../../../fleet/host/host-paths.ts'
import { encodeInvitation } from '../../../fleet/host/invitation-token.ts'
import { printJson } from '../../context.ts'
import { formatTimeFully } from '../../format.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  parseBrokerUrl,
} from '../../options.ts'
import { ask } from '../../request.ts'
import { InvalidValue, UsageError } from '../../usage-error.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { kindOption, nameOption } from './host-action.ts'

interface Options extends ClientOptions {
  readonly kind: AgentKind
  readonly name: string
  /** Seconds. */
  readonly ttl?: number
  readonly address: readonly string[]
  readonly agentBroker?: readonly string[]
  readonly again?: true
}

const DEFAULT_TTL_S = 900

export const invite = defineVerb<Options>({
  name: 'agent invite',
  summary: 'let a host join the fleet by itself, as one agent',
  description: [
    'Prints a token, one line, for cloud-init, Ansible, or whatever else sets up the host; "howdah agent join" takes it ' +
      'there. It is for this kind and name only, and for the first host that uses it; it names the broker and the ' +
      "fleet's authority, whose fingerprint is shown on stderr. Until it is used or has expired whoever has the token can " +
      'become that agent: keep it as a password.',
    'Another invitation of the same agent makes earlier ones useless, and so does "howdah agent revoke".',
  ],
  options: [
    kindOption,
    nameOption,
    {
      flags: '--ttl <TIME>',
      description: 'How long the invitation is good for, like 90s, 15m, 12h or 7d; from 60s to 7d.',
      defaultText: '15m',
      parse: parseTtl,
    },
    {
      flags: '--address <ADDRESS>',
      description: 'Of a mount agent: a host name or address by which target servers reach it.',
      repeatable: true,
    },
    {
      flags: '--agent-broker <URL[,URL…]>',
      description: 'The broker as the host reaches it, all nodes of a cluster: amqps://host:5671/vhost.',
      defaultText: 'as this command reaches it',
      parse: parseAgentBroker,
    },
    { flags: '--again', description: 'Also if the agent was revoked: it is enrolled again when it joins.' },
    jsonOption('Print {"token", "invitation", "fingerprint", "expiresAt"} as one JSON document.'),
    ...askingOptions('a minute'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah agent invite --kind target --name db-7 --ttl 15m', 'A token for the host db-7.'],
    [
      'howdah agent invite --kind mount --name backup-1 --address backup-1.example | ssh backup-1 sudo howdah agent join --repository prod=pgbackrest:/var/lib/pgbackrest',
      'Used at once, and seen by nobody.',
    ],
  ],
  run: runInvite,
})

async function runInvite({ context, options, deadline, connect }: Call<Options>): Promise<number> {
  const { kind, name, address: addresses, ttl: ttlSeconds = DEFAULT_TTL_S, again } = options
  if (kind === 'target' && addresses.length > 0) throw new UsageError('--address is for mount agents', invite)
  await using connection = await connect()
  const brokers = options.agentBroker ?? connection.urls
  if (!brokers.every((url) => url.startsWith('amqps://'))) {
    throw new HowdahError(
      'configuration',
      'agents join by certificate, which takes TLS: name the broker as the host reaches it, with --agent-broker amqps://host:5671/vhost',
    )
  }
  const { makeCertificateRequest, makePrivateKey } = await import('../../../../config/certificate-request.ts')
  const { authorityFingerprint } = await import('../../../fleet/authority/fingerprint.ts')
  const id = randomBytes(8).toString('hex')
  // The key is in the token alone.
  const key = makePrivateKey()
  const csr = await makeCertificateRequest({ key, commonName: invitedUser(id), names: [] })
  const body = { kind, name, invitation: id, csr, ttlSeconds, addresses: [...addresses] }
  const { ca, certificate, expiresAt } = await ask(
    connection.bus,
    'agent.invite',
    { ...body, ...(again && { again }) },
    { ...deadline.asking(), messageId: randomUUID() },
  )
  const token = encodeInvitation({ kind, name, id, brokers, expiresAt, addresses, ca, certificate, key })
  const fingerprint = authorityFingerprint(ca)
  if (options.json === true) printJson(context, { token, invitation: id, fingerprint, expiresAt })
  else {
    context.stderr.line(
      `Invitation ${id} for the ${kind} agent ${name}, until ${formatTimeFully(new Date(expiresAt), context.now())}. Authority ${fingerprint}.`,
    )
    context.stdout.line(token)
  }
  return 0
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }

function parseTtl(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const seconds = Number(count) * (UNITS[unit] ?? Number.NaN)
  if (count === '' || seconds < INVITATION_SECONDS.least || seconds > INVITATION_SECONDS.most)
    throw new InvalidValue('like 90s, 15m, 12h or 7d; from 60s to 7d')
  return seconds
}

function parseAgentBroker(text: string): string[] {
  const urls = text.split(',').map(parseBrokerUrl)
  const isUsable = (url: string) => url.startsWith('amqps://') && new URL(url).username === ''
  if (!urls.every(isUsable)) throw new InvalidValue('like amqps://host:5671/vhost, without user and password')
  return urls
}
