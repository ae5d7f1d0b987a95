/**
 * Private keys and certificate requests (PKCS #10, RFC 2986), which agents make where they run: the key never leaves its
 * machine, and the fleet's authority signs the request. Touches no files.
 */
import 'reflect-metadata'
import { createPrivateKey, createPublicKey, generateKeyPairSync, webcrypto } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'

export interface CertificateRequestOptions {
  /** PEM text of an EC key on P-256, as `makePrivateKey` returns it. */
  readonly key: string
  readonly commonName: string
  /** DNS names and IP addresses by which the owner is reached. */
  readonly names: readonly string[]
}

const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

/** A new private key, as PEM text (PKCS #8). */
export function makePrivateKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** The request as PEM text, signed with the key. @throws Error when the key is not an EC key on P-256 */
export async function makeCertificateRequest(options: CertificateRequestOptions): Promise<string> {
  const key = createPrivateKey(options.key)
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' })
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const names = options.names.map((value) => ({ type: isIP(value) ? 'ip' : 'dns', value }) as const)
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      name: [{ CN: [options.commonName] }],
      keys: {
        privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, ECDSA, false, ['sign']),
        publicKey: await webcrypto.subtle.importKey('spki', spki, ECDSA, true, ['verify']),
      },
      signingAlgorithm: ECDSA,
      extensions: names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : [],
    },
    webcrypto,
  )
  return `${request.toString('pem')}\n`
}
