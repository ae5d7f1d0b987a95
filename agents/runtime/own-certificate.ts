/**
 * The certificate of an agent, from its files: renewed through the coordinator before it expires, with the same key, and
 * taken into use when it has changed, whoever changed it. Owns the file of the certificate; the key and that of the
 * authority are only read.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { TlsConfig } from '../../config/schema.ts'
import { type Backoff, backoffMs } from '../../messages/backoff.ts'
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { agentOfUser, agentUser } from '../../messages/permissions.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import type { AgentView } from '../../messages/values.ts'

export interface OwnCertificate {
  /** Whom it names, and until when. */
  readonly view: NonNullable<AgentView['certificate']>
  /** Stops renewing. */
  close(): void
}

export interface OwnCertificateOptions {
  readonly address: AgentAddress
  readonly files: TlsConfig
  readonly bus: Pick<Bus, 'askCoordinator'>
  /** Called when another certificate is in the files. */
  readonly onChange?: () => void
  readonly logger: Logger
  /** A change that somebody else made is noticed after that long; default: a minute. */
  readonly lookMs?: number
  readonly now?: () => number
  readonly random?: () => number
}

/** An operator is warned this long before a certificate expires. */
const WARNING_MS = 14 * 86_400_000
const LOOK_MS = 60_000
/** No more often than that it says that a certificate was not renewed. */
const SAY_AGAIN_MS = 86_400_000
const RETRY: Backoff = { firstMs: 1_000, maxMs: 3_600_000 }
const ASK_MS = 30_000

/** @throws HowdahError `configuration` when the files hold no certificate that fits the key */
export async function keepCertificate(options: OwnCertificateOptions): Promise<OwnCertificate> {
  const { address, files, bus, onChange, logger, lookMs = LOOK_MS } = options
  const { now = Date.now, random = Math.random } = options
  const closed = new AbortController()
  let current = await readCertificate(files)
  let attempts = 0
  let nextAttempt = dueAt(current, random)
  let saidAt = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined

  function use(found: X509Certificate): void {
    if (userOf(found) !== userOf(current)) {
      logger.warn(
        viewOf(found),
        'this agent was enrolled again, as another user of the broker: restart it ("howdah agent restart"); published instances stay up',
      )
    }
    current = found
    attempts = 0
    // Not at once, whatever the clocks say.
    nextAttempt = Math.max(dueAt(found, random), now() + thirdOf(found) / 10)
    saidAt = Number.NEGATIVE_INFINITY
    logger.info(viewOf(found), 'the certificate has changed')
    onChange?.()
  }

  async function renew(): Promise<void> {
    const { makeCertificateRequest } = await import('../../config/certificate-request.ts')
    const key = await readFile(files.key, 'utf8')
    const csr = await makeCertificateRequest({ key, commonName: agentUser(address), names: [] })
    const asking = { timeoutMs: ASK_MS, signal: closed.signal }
    const reply = await bus.askCoordinator(address, 'agent.renew', { ...address, csr }, asking)
    if (!reply.accepted) throw HowdahError.of(reply.error)
    const renewed = parse(reply.certificate)
    requireOurs(renewed, { address, key, ca: parse(await readFile(files.ca, 'utf8')) })
    await replaceFile(files.certificate, reply.certificate)
    use(renewed)
  }

  /** Warns at once when there is little time, and then once a day. */
  function say(error: unknown): void {
    const left = current.validToDate.getTime() - now()
    const entry = { ...viewOf(current), reason: (error as Error).message }
    if (left >= WARNING_MS || now() - saidAt < SAY_AGAIN_MS) {
      logger.debug(entry, 'the certificate was not renewed')
      return
    }
    saidAt = now()
    const when = left > 0 ? `expires in ${Math.floor(left / 86_400_000)} days` : 'has expired'
    logger.warn(
      entry,
      `the certificate of this agent ${when} and was not renewed; if that goes on, enrol the agent again ("howdah agent install")`,
    )
  }

  async function look(): Promise<void> {
    try {
      const found = await readCertificate(files)
      if (found.fingerprint256 !== current.fingerprint256) use(found)
      if (now() >= nextAttempt) await renew()
    } catch (error) {
      if (closed.signal.aborted) return
      attempts += 1
      // A certificate that lives for a short time is renewed in what is left of it.
      const maxMs = Math.max(RETRY.firstMs, Math.min(RETRY.maxMs, thirdOf(current) / 10))
      nextAttempt = now() + backoffMs(attempts, { ...RETRY, maxMs }, random)
      say(error)
    }
    schedule()
  }

  function schedule(): void {
    if (closed.signal.aborted) return
    const waitMs = Math.max(0, Math.min(lookMs, nextAttempt - now()))
    timer = setTimeout(() => void look(), waitMs)
    timer.unref()
  }
  schedule()

  return {
    get view() {
      return viewOf(current)
    },
    close() {
      closed.abort()
      clearTimeout(timer)
    },
  }
}

/** When a certificate is to be renewed: a third of its time is left, or somewhat less, so that not all come at once. */
function dueAt(certificate: X509Certificate, random: () => number): number {
  return certificate.validToDate.getTime() - thirdOf(certificate) * (1 - random() / 5)
}

function thirdOf({ validFromDate, validToDate }: X509Certificate): number {
  return (validToDate.getTime() - validFromDate.getTime()) / 3
}

function viewOf(certificate: X509Certificate): NonNullable<AgentView['certificate']> {
  return { user: userOf(certificate) ?? '', notAfter: certificate.validToDate.toISOString() }
}

function userOf({ subject }: X509Certificate): string | undefined {
  return /^CN=(.+)$/m.exec(subject)?.[1]
}

async function readCertificate(files: TlsConfig): Promise<X509Certificate> {
  const certificate = parse(await readFile(files.certificate, 'utf8'))
  if (!certificate.checkPrivateKey(createPrivateKey(await readFile(files.key, 'utf8')))) {
    throw new HowdahError('configuration', `${files.certificate} does not belong to the key ${files.key}`)
  }
  return certificate
}

/** @throws HowdahError `unauthorized` */
function requireOurs(
  certificate: X509Certificate,
  { address, key, ca }: { address: AgentAddress; key: string; ca: X509Certificate },
): void {
  const agent = agentOfUser(userOf(certificate))
  const isOurs =
    agent?.kind === address.kind &&
    agent.name === address.name &&
    certificate.checkPrivateKey(createPrivateKey(key)) &&
    certificate.checkIssued(ca) &&
    certificate.verify(ca.publicKey)
  if (isOurs) return
  throw new HowdahError(
    'unauthorized',
    `the coordinator sent a certificate of "${userOf(certificate)}" that is not for this agent and its key, or that another authority signed`,
  )
}

function parse(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (cause) {
    throw new HowdahError('configuration', 'a certificate is no PEM text', { cause })
  }
}

/** Whoever reads it, or a crash, finds the old content or the new. */
async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.new`
  try {
    await using file = await open(temporary, 'w', 0o644)
    await file.writeFile(text)
    await file.sync()
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
