/**
 * A private key in a file: its public half without a passphrase, as far as the format allows, and signing.
 *
 * Source of OpenSSH's format: PROTOCOL.key of OpenSSH: magic, cipher, key derivation and its options, count, public key.
 */
import { readFileSync } from 'node:fs'
import ssh2, { type ParsedKey } from 'ssh2'

export interface KeyFile {
  readonly path: string
  /** As the server gets it. Undefined: only the passphrase reveals it. */
  readonly publicKey: Buffer | undefined
  readonly encrypted: boolean
  /** @throws Error when the passphrase is wrong, or the key is of no supported kind */
  open(passphrase?: string): ParsedKey
}

const MAGIC = Buffer.from('openssh-key-v1\0')

/** Undefined: there is no such file. @throws Error: it cannot be read, or is no private key */
export function readKeyFile(path: string): KeyFile | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
  const parsed = ssh2.utils.parseKey(text)
  const encrypted = parsed instanceof Error && /encrypted/i.test(parsed.message)
  if (parsed instanceof Error && !encrypted) throw new Error(`${path}: ${parsed.message}`)
  return {
    path,
    encrypted,
    publicKey:
      parsed instanceof Error ? (publicHalf(text) ?? publicFile(`${path}.pub`)) : parsed.getPublicSSH(),
    open(passphrase) {
      const key = ssh2.utils.parseKey(text, passphrase)
      if (key instanceof Error) throw new Error(`${path}: ${key.message}`)
      if (!key.isPrivateKey()) throw new Error(`${path} holds a public key; the private one is needed`)
      return key
    },
  }
}

/** Of an encrypted key in OpenSSH's format, where the public half is readable. */
function publicHalf(text: string): Buffer | undefined {
  const [, base64] = /-----BEGIN OPENSSH PRIVATE KEY-----([\s\S]+?)-----END/.exec(text) ?? []
  const data = Buffer.from(base64 ?? '', 'base64')
  if (!data.subarray(0, MAGIC.length).equals(MAGIC)) return undefined
  let at = MAGIC.length
  const next = (): Buffer => {
    const length = data.readUInt32BE(at)
    const value = data.subarray(at + 4, at + 4 + length)
    at += 4 + length
    return value
  }
  try {
    for (let skipped = 0; skipped < 3; skipped += 1) next()
    at += 4
    return next()
  } catch {
    return undefined
  }
}

function publicFile(path: string): Buffer | undefined {
  try {
    const parsed = ssh2.utils.parseKey(readFileSync(path, 'utf8'))
    return parsed instanceof Error ? undefined : parsed.getPublicSSH()
  } catch {
    return undefined
  }
}
