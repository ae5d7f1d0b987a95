/** Whether a request for a certificate (PKCS #10, RFC 2986) may be signed. Untrusted input; touches no files. */
import 'reflect-metadata'
import { createPublicKey, type KeyObject, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { HowdahError } from '../../../messages/errors.ts'
import { contentsOf, type Identity } from './identity.ts'

const CURVES: readonly string[] = ['prime256v1', 'secp384r1']
/** The extension of RFC 5280, 4.2.1.6. */
const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17'
const RSA_BITS = { least: 2048, most: 4096 } as const

/**
 * The host of an agent does not know its enrolment: the request names the agent as in its first one.
 *
 * Checks that a request is signed with its own key, that the key is a usual one, and that it asks for no other name than
 * the identity has. Nothing else of it gets into a certificate.
 * @param csr PEM
 * @returns the public key
 * @throws HowdahError `unauthorized` with the field `csr`
 */
export async function requestedKey(csr: string, identity: Identity): Promise<KeyObject> {
  const request = parse(csr)
  const key = publicKeyOf(request)
  if (!(await request.verify(webcrypto).catch(() => false))) throw refused('its signature is not of its key')
  requireNames(request, identity)
  return key
}

/** The public key of a request that is not checked. SPKI. @throws HowdahError `unauthorized` with the field `csr` */
export function publicKeyIn(csr: string): Buffer {
  return Buffer.from(parse(csr).publicKey.rawData)
}

function parse(csr: string): x509.Pkcs10CertificateRequest {
  try {
    return new x509.Pkcs10CertificateRequest(csr)
  } catch (cause) {
    throw refused('it is no certificate request in PEM (PKCS #10)', cause)
  }
}

function publicKeyOf(request: x509.Pkcs10CertificateRequest): KeyObject {
  let key: KeyObject
  try {
    key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: 'der', type: 'spki' })
  } catch (cause) {
    throw refused('its key cannot be read', cause)
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  if (type === 'ec' && CURVES.includes(details?.namedCurve ?? '')) return key
  const bits = details?.modulusLength ?? 0
  if (type === 'rsa' && bits >= RSA_BITS.least && bits <= RSA_BITS.most) return key
  throw refused(
    `its key is ${type} ${details?.namedCurve ?? details?.modulusLength ?? ''}; it must be EC of P-256 or P-384, or RSA of ${RSA_BITS.least} to ${RSA_BITS.most} bits`,
  )
}

function requireNames(request: x509.Pkcs10CertificateRequest, identity: Identity): void {
  const { commonName, names } = contentsOf({ ...identity, enrolment: 1 })
  const subject = request.subjectName.toJSON()
  const [only, ...others] = subject.flatMap((part) => Object.entries(part))
  if (others.length > 0 || only?.[0] !== 'CN' || only[1].join() !== commonName) {
    throw refused(`its subject is "${request.subject.slice(0, 100)}" and must be CN=${commonName}`)
  }
  const extension = request.extensions.find(({ type }) => type === SUBJECT_ALTERNATIVE_NAME)
  if (extension === undefined) return
  const asked = new x509.SubjectAlternativeNameExtension(extension.rawData).names.toJSON()
  const foreign = asked.find(({ type, value }) => !['dns', 'ip'].includes(type) || !names.includes(value))
  if (foreign) {
    throw refused(
      `it asks for the name "${foreign.value.slice(0, 100)}", which is not among the addresses of the agent`,
    )
  }
}

function refused(why: string, cause?: unknown): HowdahError {
  return new HowdahError('unauthorized', `the certificate request is refused: ${why}`, {
    field: 'csr',
    cause,
  })
}
