/** The fingerprint of an authority, as people compare it. Pure. */
import { X509Certificate } from 'node:crypto'

/** `SHA256:` and Base64 without padding, as OpenSSH prints fingerprints. @param certificate PEM */
export function authorityFingerprint(certificate: string): string {
  return fingerprintOf(new X509Certificate(certificate))
}

export function fingerprintOf(certificate: X509Certificate): string {
  const digest = Buffer.from(certificate.fingerprint256.replaceAll(':', ''), 'hex')
  return `SHA256:${digest.toString('base64').replace(/=+$/, '')}`
}
