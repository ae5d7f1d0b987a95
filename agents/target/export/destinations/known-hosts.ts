/**
 * Known host keys, from a known_hosts file or by fingerprint. Pure.
 *
 * Source of the format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"; of the key blob: RFC 4253, 6.6.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

export interface KnownKeys {
  /** Algorithms to offer the server, so that it presents a known key; empty: any. */
  readonly algorithms: readonly string[]
  /** Whether a host key, as sent by the server, is known. */
  accepts(key: Buffer): boolean
}

/** `fingerprint`: `SHA256:` and unpadded base64, as printed by ssh-keygen -l. */
export function keysByFingerprint(fingerprint: string): KnownKeys {
  return { algorithms: [], accepts: (key) => same(fingerprintOf(key), fingerprint.replace(/=+$/, '')) }
}

export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`
}

/** The keys that a known_hosts file has for a host. Certificate authorities are ignored. */
export function keysOfHost(file: string, host: string, port: number): KnownKeys {
  const lines = file
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [first = '', ...rest] = line.split(/\s+/)
      return first.startsWith('@')
        ? { marker: first, hosts: rest[0] ?? '', type: rest[1] ?? '', key: rest[2] ?? '' }
        : { marker: '', hosts: first, type: rest[0] ?? '', key: rest[1] ?? '' }
    })
    .filter(({ hosts }) => names(hosts, host, port))
  const revoked = lines.filter(({ marker }) => marker === '@revoked').map(({ key }) => key)
  const known = lines.filter(({ marker, key }) => marker === '' && !revoked.includes(key))
  return {
    algorithms: [...new Set(known.flatMap(({ type }) => SIGNATURES[type] ?? [type]))],
    accepts: (key) => known.some((line) => same(line.key, key.toString('base64'))),
  }
}

/** RFC 8332: signature algorithms of an RSA key have other names than the key type. */
const SIGNATURES: Readonly<Record<string, readonly string[]>> = {
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
}

function names(hosts: string, host: string, port: number): boolean {
  const name = port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`
  const [, hashed, salt, hash] = /^(\|1\|)([^|]+)\|(.+)$/.exec(hosts) ?? []
  if (hashed !== undefined)
    return same(
      createHmac('sha1', Buffer.from(salt ?? '', 'base64'))
        .update(name)
        .digest('base64'),
      hash ?? '',
    )
  const patterns = hosts.split(',')
  if (patterns.some((pattern) => pattern.startsWith('!') && matches(pattern.slice(1), name))) return false
  return patterns.some((pattern) => !pattern.startsWith('!') && matches(pattern, name))
}

function matches(pattern: string, name: string): boolean {
  const regex = pattern
    .toLowerCase()
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${regex}$`).test(name)
}

function same(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
}
