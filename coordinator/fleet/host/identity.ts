/**
 * The identity of an agent on its host: a private key that is made here and stays here, and the certificate that the
 * fleet's authority signed for it. Owns the files of `tls/`.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'
import type { AgentKind, IdentityFiles } from './host-paths.ts'
import { ensureFile, type Owner, readIfThere } from './managed-file.ts'

export interface SignedIdentity {
  /** PEM texts. */
  readonly certificate: string
  readonly ca: string
}

const ROOT: Owner = { uid: 0, gid: 0 }

/** The name in the certificate, which is also the RabbitMQ user. */
export function commonName(kind: AgentKind, name: string): string {
  return `howdah-${kind}-${name}`
}

/**
 * The certificate request of an agent, for its key, which is made if there is none.
 * @param owner of the key: who the agent runs as
 * @returns PEM text
 * @throws HowdahError `configuration` when the key cannot be read
 */
export async function requestCertificate(
  files: IdentityFiles,
  request: { readonly kind: AgentKind; readonly name: string; readonly addresses: readonly string[] },
  owner: Owner,
): Promise<string> {
  const { makeCertificateRequest, makePrivateKey } = await import('../../../config/certificate-request.ts')
  await mkdir(path.dirname(files.key), { recursive: true, mode: 0o755 })
  const existing = await readIfThere(files.key)
  const key = existing ?? makePrivateKey()
  await ensureFile(files.key, key, { mode: 0o600, owner })
  try {
    return await makeCertificateRequest({
      key,
      commonName: commonName(request.kind, request.name),
      names: request.addresses,
    })
  } catch (cause) {
    throw new HowdahError(
      'configuration',
      `${files.key} is not a private key that Howdah made (EC, P-256): move it away, and a new one is made`,
      { cause },
    )
  }
}

/**
 * Installs what the authority signed. Nothing is written unless all of it fits together.
 * @returns the files that changed
 * @throws HowdahError `unauthorized` when the certificate is not for this agent's key or not of that authority
 */
export async function acceptCertificate(
  files: IdentityFiles,
  kind: AgentKind,
  signed: SignedIdentity,
  owner: Owner,
  now = new Date(),
): Promise<string[]> {
  const key = await readIfThere(files.key)
  if (key === undefined)
    throw new HowdahError('configuration', `${files.key} does not exist; "howdah agent request" makes it`)
  const ca = parse(signed.ca, 'ca')
  const certificate = parse(signed.certificate, 'certificate')
  const refuse = (why: string) => new HowdahError('unauthorized', `the certificate is refused: ${why}`)
  if (!ca.ca || !certificate.checkIssued(ca) || !certificate.verify(ca.publicKey))
    throw refuse('"ca" did not sign it')
  if (!certificate.checkPrivateKey(createPrivateKey(key)))
    throw refuse(`it belongs to another key than ${files.key}; ask for it again with "howdah agent request"`)
  if (!certificate.subject.startsWith(`CN=${commonName(kind, '')}`))
    throw refuse(`it is for ${certificate.subject}, not for a ${kind} agent`)
  if (certificate.validToDate <= now) throw refuse(`it expired at ${certificate.validToDate.toISOString()}`)
  if (certificate.validFromDate > now)
    throw refuse(
      `it is valid from ${certificate.validFromDate.toISOString()}, and this machine's clock says ${now.toISOString()}`,
    )
  const changed: string[] = []
  // The authority first: an agent that starts between the two has what its old certificate needs, or refuses to start.
  if (await ensureFile(files.ca, signed.ca, { mode: 0o644, owner: ROOT })) changed.push(files.ca)
  if (await ensureFile(files.certificate, signed.certificate, { mode: 0o644, owner }))
    changed.push(files.certificate)
  return changed
}

function parse(text: string, what: string): X509Certificate {
  try {
    return new X509Certificate(text)
  } catch (cause) {
    throw new HowdahError('configuration', `"${what}" is not a certificate in PEM`, { cause })
  }
}
