/**
 * The token of an invitation, one line: for whom it is, where the broker is, the fleet's authority, and the certificate and
 * key with which its holder logs in once. Whoever has it can become that agent, so it is a secret. Pure.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { brokerUrls } from '../../../config/formats.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { Name } from '../../../messages/primitives.ts'
import { AGENT_KINDS, type AgentKind } from './host-paths.ts'

export interface Invitation {
  readonly kind: AgentKind
  readonly name: string
  /** Names the user at the broker. */
  readonly id: string
  /** `amqps://host:port/vhost`, of each node; without a user. */
  readonly brokers: readonly string[]
  readonly expiresAt: string
  /** Of a mount agent: where target servers reach it. */
  readonly addresses: readonly string[]
  /** PEM texts: the fleet's authority, and what the holder logs in with. */
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

const PREFIX = 'howdah-join-1.'
const MAX_LENGTH = 16 * 1024

/** DER, in base64url. */
const Der = z.base64url().min(1)

const Contents = z.object({
  kind: z.enum(AGENT_KINDS),
  name: Name,
  id: z.string().regex(/^[0-9a-f]{16}$/),
  brokers: z.array(z.string().startsWith('amqps://')).min(1).max(16),
  expiresAt: z.iso.datetime(),
  addresses: z.array(z.string()).max(20),
  ca: Der,
  certificate: Der,
  key: Der,
})

export function encodeInvitation(invitation: Invitation): string {
  const { ca, certificate, key, ...rest } = invitation
  const contents: z.infer<typeof Contents> = {
    ...{ ...rest, brokers: [...rest.brokers], addresses: [...rest.addresses] },
    ca: new X509Certificate(ca).raw.toString('base64url'),
    certificate: new X509Certificate(certificate).raw.toString('base64url'),
    key: createPrivateKey(key).export({ type: 'pkcs8', format: 'der' }).toString('base64url'),
  }
  return `${PREFIX}${Buffer.from(JSON.stringify(contents)).toString('base64url')}`
}

/** @throws HowdahError `configuration`, which does not repeat any of it */
export function decodeInvitation(token: string): Invitation {
  const text = token.trim()
  const refuse = (why: string) => new HowdahError('configuration', `the token ${why}`)
  if (text === '') throw refuse('is empty; "howdah agent invite" prints one')
  if (!text.startsWith(PREFIX)) {
    throw refuse(
      text.startsWith('howdah-join-')
        ? 'is of another release of Howdah; install the same one here'
        : `is none of "howdah agent invite": those begin with ${PREFIX}`,
    )
  }
  const damaged = refuse('is damaged or not complete; it is a single line, to be taken as a whole')
  if (text.length > MAX_LENGTH) throw damaged
  try {
    const json = Buffer.from(text.slice(PREFIX.length), 'base64url').toString('utf8')
    const { ca, certificate, key, ...rest } = Contents.parse(JSON.parse(json))
    brokerUrls.validate(rest.brokers)
    const der = { format: 'der', type: 'pkcs8' } as const
    const privateKey = createPrivateKey({ key: Buffer.from(key, 'base64url'), ...der })
    return {
      ...rest,
      ca: pemOf(ca),
      certificate: pemOf(certificate),
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    }
  } catch {
    // Of errors about it some repeat parts of it.
    throw damaged
  }
}

function pemOf(der: string): string {
  return `${new X509Certificate(Buffer.from(der, 'base64url')).toString().trimEnd()}\n`
}
