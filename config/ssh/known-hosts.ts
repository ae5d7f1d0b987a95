/**
 * Known host keys, from known_hosts files or by fingerprint. Pure.
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

/** What one line says about a host. */
export interface KnownHostLine {
  /** From 1. */
  readonly number: number
  readonly marker: '' | '@revoked' | '@cert-authority' | (string & {})
  /** Key type, as `ssh-ed25519`. */
  readonly type: string
  /** Base64. */
  readonly key: string
}

/** `fingerprint`: `SHA256:` and unpadded base64, as printed by ssh-keygen -l. */
export function keysByFingerprint(fingerprint: string): KnownKeys {
  return { algorithms: [], accepts: (key) => hasFingerprint(key, fingerprint) }
}

export function hasFingerprint(key: Buffer, fingerprint: string): boolean {
  return same(fingerprintOf(key), fingerprint.replace(/=+$/, ''))
}

export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`
}

/** The keys that a known_hosts file has for a host. Certificate authorities are ignored. */
export function keysOfHost(file: string, host: string, port: number): KnownKeys {
  const lines = linesOfHost(file, host, port)
  const revoked = lines.filter(({ marker }) => marker === '@revoked').map(({ key }) => key)
  const known = lines.filter(({ marker, key }) => marker === '' && !revoked.includes(key))
  return {
    algorithms: [...new Set(known.flatMap(({ type }) => signaturesOf(type)))],
    accepts: (key) => known.some((line) => same(line.key, key.toString('base64'))),
  }
}

/** The lines of a known_hosts file that concern a host. */
export function linesOfHost(file: string, host: string, port: number): KnownHostLine[] {
  return file.split('\n').flatMap((text, index) => {
    const line = text.trim()
    if (line === '' || line.startsWith('#')) return []
    const words = line.split(/\s+/)
    const marker = words[0]?.startsWith('@') ? (words.shift() ?? '') : ''
    const [hosts = '', type = '', key = ''] = words
    return names(hosts, host, port) ? [{ number: index + 1, marker, type, key }] : []
  })
}

/** How a host is written in known_hosts. */
export function hostEntry(host: string, port: number): string {
  return port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`
}

/** The same without the name in readable form, as OpenSSH writes it with HashKnownHosts. */
export function hashedHostEntry(host: string, port: number, salt: Buffer): string {
  return `|1|${salt.toString('base64')}|${hashOf(hostEntry(host, port), salt)}`
}

/** The signature algorithms of a key type: those of RSA have other names than the type (RFC 8332). */
export function signaturesOf(type: string): readonly string[] {
  return type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]
}

/** The key type that a key, as sent by the server, begins with. */
export function typeOfKey(key: Buffer): string {
  if (key.length < 4) return ''
  return key.subarray(4, 4 + key.readUInt32BE(0)).toString('latin1')
}

function names(hosts: string, host: string, port: number): boolean {
  const name = hostEntry(host, port)
  const [, hashed, salt, hash] = /^(\|1\|)([^|]+)\|(.+)$/.exec(hosts) ?? []
  if (hashed !== undefined) return same(hashOf(name, Buffer.from(salt ?? '', 'base64')), hash ?? '')
  const patterns = hosts.split(',')
  if (patterns.some((pattern) => pattern.startsWith('!') && matches(pattern.slice(1), name))) return false
  return patterns.some((pattern) => !pattern.startsWith('!') && matches(pattern, name))
}

function hashOf(name: string, salt: Buffer): string {
  return createHmac('sha1', salt).update(name).digest('base64')
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
