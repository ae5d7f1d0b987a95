/**
 * The authority of a fleet, from its two files: ca.pem and ca.key. It signs what it is asked to sign; who may ask is
 * decided elsewhere. Coordinators on several machines have copies of both files, which never change.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'
import { authorityExpired, authorityWarning } from './authority-end.ts'
import { fingerprintOf } from './fingerprint.ts'
import { contentsOf, type Identity } from './identity.ts'

export interface Authority {
  /** PEM. */
  readonly certificate: string
  /** `SHA256:…`, Base64 as OpenSSH prints fingerprints. */
  readonly fingerprint: string
  /** What to tell an operator of its end; undefined while that is far. */
  warning(): string | undefined
  /**
   * Signs a request.
   * @param csr PEM
   * @throws HowdahError `unauthorized` with the field `csr`
   */
  certify(csr: string, identity: Identity, lifetimeMs: number): Promise<string>
}

/** Clocks of other machines may be slow. Not more than the certificate is valid for, so that renewal is in time. */
const MAX_BACKDATE_MS = 86_400_000

/**
 * @param now the clock, for tests
 * @throws HowdahError `configuration` when a file is missing, or the key is not that of the certificate
 */
export async function openAuthority(directory: string, now: () => number = Date.now): Promise<Authority> {
  const certificate = await read(directory, 'ca.pem')
  const key = await read(directory, 'ca.key')
  const parsed = parse(certificate, key, directory)
  return {
    certificate,
    fingerprint: fingerprintOf(parsed),
    warning: () => authorityWarning(parsed, directory, new Date(now())),
    async certify(csr, identity, lifetimeMs) {
      const { requestedKey } = await import('./certificate-request.ts')
      const { signCertificate } = await import('./x509.ts')
      const publicKey = await requestedKey(csr, identity)
      const issuedAt = now()
      const end = Math.min(issuedAt + lifetimeMs, parsed.validToDate.getTime())
      if (end <= issuedAt) throw authorityExpired(parsed, directory)
      return signCertificate({ certificate, key }, publicKey, {
        ...contentsOf(identity),
        notBefore: new Date(issuedAt - Math.min(lifetimeMs, MAX_BACKDATE_MS)),
        notAfter: new Date(end),
      })
    },
  }
}

function parse(certificate: string, key: string, directory: string): X509Certificate {
  try {
    const parsed = new X509Certificate(certificate)
    if (parsed.ca && parsed.checkPrivateKey(createPrivateKey(key))) return parsed
  } catch {
    // The same answer as for files that do not fit together.
  }
  throw new HowdahError(
    'configuration',
    `ca.pem and ca.key in ${directory} are not the certificate and the key of one authority`,
  )
}

function read(directory: string, name: string): Promise<string> {
  return readFile(join(directory, name), 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const hint = cause.code === 'ENOENT' ? '; "howdah authority init" makes an authority' : ''
    throw new HowdahError('configuration', `the authority cannot be read: ${cause.message}${hint}`, { cause })
  })
}
