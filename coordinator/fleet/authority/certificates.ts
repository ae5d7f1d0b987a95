/**
 * The certificates of an installation, as files of one directory: a private authority and what it issues, keys included.
 *
 * Owns `ca.pem`, `ca.key` and `<kind>-<name>.pem|key` there and decides when one is issued again. Data plane and broker
 * trust what this authority signs and nothing else: it is not replaced unless the caller says that nobody else trusts it.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { chmod, mkdir, open, readFile, rename, unlink } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'
import { authorityExpired, authorityWarning } from './authority-end.ts'
import { contentsOf, type Identity } from './identity.ts'
import type { CertificateContents, IssuedCertificate } from './x509.ts'

export interface CertificatePaths {
  /** The authority's certificate. */
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export interface EnsureAuthorityOptions {
  /** Nobody has a copy of `ca.pem`: an authority that is damaged, or within 30 days of its end, is made again. Default: no. */
  readonly isPrivate?: boolean
  /** What the caller is to be told of an authority that is good for now. */
  readonly warn?: (text: string) => void
  /** The clock, for tests. */
  readonly now?: () => Date
}

export interface EnsureCertificatesOptions extends EnsureAuthorityOptions {
  readonly identities: readonly Identity[]
}

const DAY_MS = 86_400_000
const AUTHORITY_DAYS = 3650
const CERTIFICATE_DAYS = 1095
/** A certificate that expires earlier than that is issued again. */
const RENEW_DAYS = 30
/** Clocks of other machines may be slow. */
const BACKDATE_DAYS = 1

/**
 * Issues what is missing, expires within 30 days, was signed by another authority or has other addresses; keeps the
 * rest. Keys are readable by their owner only.
 * @returns the files of each, in the order given
 * @throws HowdahError `configuration` as `ensureAuthority` does, and when the authority's key is needed but missing or not
 * the key of `ca.pem`
 */
export async function ensureCertificates(
  directory: string,
  { identities, now = () => new Date(), ...options }: EnsureCertificatesOptions,
): Promise<CertificatePaths[]> {
  const today = now()
  const authority = await ensureAuthority(directory, { ...options, now: () => today })
  const paths: CertificatePaths[] = []
  for (const identity of identities) {
    const base = join(directory, fileName(identity))
    const files = { ca: join(directory, 'ca.pem'), cert: `${base}.pem`, key: `${base}.key` }
    const contents = contentsOf(identity)
    if (!(await isCurrent(files, authority, contents, today))) {
      const key = await readAuthorityKey(directory, authority)
      const { issueCertificate } = await import('./x509.ts')
      const issued = await issueCertificate(
        { certificate: authority.toString(), key },
        {
          ...contents,
          notBefore: days(today, -BACKDATE_DAYS),
          notAfter: earlier(days(today, CERTIFICATE_DAYS), authority.validToDate),
        },
      )
      await writePair(files, issued)
    }
    await chmod(files.key, 0o600)
    paths.push(files)
  }
  return paths
}

function fileName({ kind, name }: Identity): string {
  return kind === 'coordinator' ? kind : `${kind}-${name}`
}

/**
 * The authority of the directory, which is made if there is none.
 * @throws HowdahError `configuration` when the one that is there has expired, or is not whole
 */
export async function ensureAuthority(
  directory: string,
  { isPrivate = false, warn, now = () => new Date() }: EnsureAuthorityOptions = {},
): Promise<X509Certificate> {
  const today = now()
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const files = { cert: join(directory, 'ca.pem'), key: join(directory, 'ca.key') }
  const existing = parse(await readIfThere(files.cert))
  if (isPrivate) {
    if (existing !== undefined && isValidAt(existing, days(today, RENEW_DAYS))) return existing
  } else if (existing !== undefined) {
    if (!isValidAt(existing, today)) throw authorityExpired(existing, directory)
    const warning = authorityWarning(existing, directory, today)
    if (warning !== undefined) warn?.(warning)
    return existing
  } else {
    await refuseRemains(files)
  }
  const { makeAuthority } = await import('./x509.ts')
  const made = await makeAuthority(days(today, -BACKDATE_DAYS), days(today, AUTHORITY_DAYS))
  await writePair(files, made)
  return new X509Certificate(made.certificate)
}

/** What is left of an authority that a fleet may trust is not overwritten. */
async function refuseRemains({ cert, key }: { cert: string; key: string }): Promise<void> {
  const restore = 'Restore it: every machine of the fleet has a copy of it'
  if ((await readIfThere(cert)) !== undefined)
    throw new HowdahError('configuration', `${cert} is not a certificate. ${restore}.`)
  if ((await readIfThere(key)) !== undefined)
    throw new HowdahError(
      'configuration',
      `${key} is there, but ${cert} is missing. ${restore}; or, if nothing was ever signed with that key, remove the key.`,
    )
}

async function readAuthorityKey(directory: string, authority: X509Certificate): Promise<string> {
  const path = join(directory, 'ca.key')
  const key = await readIfThere(path)
  if (key === undefined || !keyFits(authority, key)) {
    throw new HowdahError(
      'configuration',
      `${path} is missing or does not match ca.pem. Restore it, or move both files away: then a new authority is created, and every machine needs new certificates.`,
    )
  }
  await chmod(path, 0o600)
  return key
}

async function isCurrent(
  files: { cert: string; key: string },
  authority: X509Certificate,
  { commonName, names, usages }: Pick<CertificateContents, 'commonName' | 'names' | 'usages'>,
  today: Date,
): Promise<boolean> {
  const certificate = parse(await readIfThere(files.cert))
  const key = await readIfThere(files.key)
  if (certificate === undefined || key === undefined) return false
  return (
    isValidAt(certificate, earlier(days(today, RENEW_DAYS), authority.validToDate)) &&
    certificate.checkIssued(authority) &&
    certificate.verify(authority.publicKey) &&
    certificate.subject === `CN=${commonName}` &&
    certificate.keyUsage.length === usages.length &&
    carriesExactly(certificate, names) &&
    keyFits(certificate, key)
  )
}

function carriesExactly(certificate: X509Certificate, names: readonly string[]): boolean {
  const carried = certificate.subjectAltName?.split(', ') ?? []
  return (
    carried.length === names.length &&
    names.every((name) =>
      isIP(name) ? certificate.checkIP(name) !== undefined : carried.includes(`DNS:${name}`),
    )
  )
}

function keyFits(certificate: X509Certificate, key: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key))
  } catch {
    return false
  }
}

function isValidAt(certificate: X509Certificate, time: Date): boolean {
  return certificate.validToDate >= time
}

function parse(pem: string | undefined): X509Certificate | undefined {
  try {
    return pem === undefined ? undefined : new X509Certificate(pem)
  } catch {
    return undefined
  }
}

function earlier(one: Date, other: Date): Date {
  return one < other ? one : other
}

function days(from: Date, count: number): Date {
  return new Date(from.getTime() + count * DAY_MS)
}

/** The key first: a certificate on disk always has its key, and a key without a certificate is replaced. */
async function writePair(files: { cert: string; key: string }, issued: IssuedCertificate): Promise<void> {
  await writeAtomically(files.key, issued.key, 0o600)
  await writeAtomically(files.cert, issued.certificate, 0o644)
}

async function writeAtomically(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${process.pid}.new`
  await unlink(temporary).catch(ignoreMissing)
  const file = await open(temporary, 'wx', mode)
  try {
    await file.chmod(mode)
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}

async function readIfThere(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(ignoreMissing)
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
