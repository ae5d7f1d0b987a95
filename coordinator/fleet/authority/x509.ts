/** Creates keys and X.509 certificates (RFC 5280): that of the private authority and those that it signs. Touches no files. */
import 'reflect-metadata'
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, webcrypto } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'

/** PEM texts. */
export interface IssuedCertificate {
  readonly certificate: string
  readonly key: string
}

export interface CertificateContents {
  readonly commonName: string
  /** DNS names and IP addresses. */
  readonly names: readonly string[]
  readonly usages: readonly ('server' | 'client')[]
  readonly notBefore: Date
  readonly notAfter: Date
}

const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const USAGES = {
  server: x509.ExtendedKeyUsage.serverAuth,
  client: x509.ExtendedKeyUsage.clientAuth,
} as const

/** A self-signed authority that can sign certificates and no further authorities. */
export async function makeAuthority(notBefore: Date, notAfter: Date): Promise<IssuedCertificate> {
  const { key, privateKey, publicKey } = makeKey()
  const keys = {
    privateKey: await importPrivateKey(privateKey),
    publicKey: await webcrypto.subtle.importKey('spki', spkiOf(publicKey), ECDSA, true, ['verify']),
  }
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      // A unique name, so that a recreated authority is never mistaken for the old one.
      name: [{ CN: [`Howdah authority ${randomBytes(8).toString('hex')}`] }],
      notBefore,
      notAfter,
      signingAlgorithm: ECDSA,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  )
  return { certificate: pem(certificate), key }
}

/** A certificate and its new key, signed by the authority. */
export async function issueCertificate(
  authority: IssuedCertificate,
  contents: CertificateContents,
): Promise<IssuedCertificate> {
  const { key, publicKey } = makeKey()
  return { certificate: await signCertificate(authority, publicKey, contents), key }
}

/** The certificate of a public key, signed by the authority. PEM. */
export async function signCertificate(
  authority: IssuedCertificate,
  publicKey: KeyObject,
  { commonName, names, usages, notBefore, notAfter }: CertificateContents,
): Promise<string> {
  const issuer = new x509.X509Certificate(authority.certificate)
  const spki = new x509.PublicKey(spkiOf(publicKey))
  const alternatives = names.map((value) =>
    isIP(value) ? ({ type: 'ip', value } as const) : ({ type: 'dns', value } as const),
  )
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: [{ CN: [commonName] }],
      issuer: issuer.subjectName,
      notBefore,
      notAfter,
      signingAlgorithm: ECDSA,
      publicKey: spki,
      signingKey: await importPrivateKey(createPrivateKey(authority.key)),
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usages.map((usage) => USAGES[usage])),
        ...(alternatives.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternatives)] : []),
        await x509.SubjectKeyIdentifierExtension.create(spki, false, webcrypto),
        await x509.AuthorityKeyIdentifierExtension.create(issuer, false, webcrypto),
      ],
    },
    webcrypto,
  )
  return pem(certificate)
}

function makeKey(): { key: string; privateKey: KeyObject; publicKey: KeyObject } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), privateKey, publicKey }
}

function spkiOf(publicKey: KeyObject): Buffer {
  return publicKey.export({ type: 'spki', format: 'der' })
}

function importPrivateKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' })
  return webcrypto.subtle.importKey('pkcs8', pkcs8, ECDSA, false, ['sign'])
}

/** Hexadecimal, 16 bytes, positive (RFC 5280, 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return bytes.toString('hex')
}

function pem(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem')}\n`
}
