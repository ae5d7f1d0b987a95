/**
 * Joins the fleet by an invitation: this host's key, its certificate from the fleet's authority over the broker, and the
 * word that it has arrived. Safe to repeat until then. Trusts nobody but the authority that the invitation names.
 *
 * Each invitation has a key of its own, beside that of the agent until the certificate is there: an agent that was revoked
 * because its key was stolen gets another one, and one that cannot join keeps what it had.
 */
import { existsSync } from 'node:fs'
import { readdir, readFile, unlink } from 'node:fs/promises'
import path from 'node:path'
import { createSecureContext } from 'node:tls'
import type { Logger } from 'pino'
import { connectBus } from '../../../messages/amqp-bus.ts'
import type { Bus } from '../../../messages/bus.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { invitedUser } from '../../../messages/permissions.ts'
import type { IdentityFiles } from './host-paths.ts'
import { acceptCertificate, requestCertificate } from './identity.ts'
import type { Invitation } from './invitation-token.ts'
import { ensureFile, type Owner, readIfThere } from './managed-file.ts'
import { type HostReport, note } from './report.ts'

export interface JoinOptions {
  readonly files: IdentityFiles
  /** Who the agent runs as. */
  readonly owner: Owner
  readonly signal: AbortSignal
  readonly logger: Logger
  readonly now?: () => number
}

/** How long the coordinator may take to sign, while it is restarted for example. */
const ANSWER_MS = 60_000
const CONNECT_MS = 10_000

/**
 * @throws HowdahError `unauthorized` for an invitation that is not valid, or when the broker or the coordinator is not of
 *   the authority that the invitation names; `broker_unavailable`; `timeout`
 */
export async function joinFleet(
  invitation: Invitation,
  { files, owner, signal, logger, now = Date.now }: JoinOptions,
): Promise<HostReport> {
  const report: HostReport = { changed: [], kept: [] }
  const { kind, name, addresses, id } = invitation
  const own = filesOfJoining(files, id)
  if ((await readIfThere(own.record)) === id && existsSync(files.certificate)) {
    note(report, `${files.certificate}: this host has joined before`, false)
    return report
  }
  const csr = await requestCertificate(own, { kind, name, addresses }, owner)
  const bus = await connect(invitation, logger, now)
  try {
    const { certificate, ca } = await ask(bus, 'agent.join', { csr }, signal)
    if (ca.trim() !== invitation.ca.trim()) {
      throw new HowdahError(
        'unauthorized',
        'the coordinator signs with another authority than the invitation names; an operator makes another one with "howdah agent invite"',
      )
    }
    const accepted = await acceptCertificate(own, kind, { certificate, ca }, owner, new Date(now()))
    if (accepted.includes(files.ca)) note(report, files.ca, true)
    // The key first: until the certificate follows, a running agent goes by what it has loaded.
    const key = await readFile(own.key, 'utf8')
    note(report, files.key, await ensureFile(files.key, key, { mode: 0o600, owner }))
    note(report, files.certificate, await ensureFile(files.certificate, certificate, { mode: 0o644, owner }))
    await ensureFile(own.record, id, { mode: 0o644, owner: ROOT })
    await removeJoining(files)
    // Without this word the invitation is of use for this host's key only, until it expires.
    await ask(bus, 'agent.joined', {}, signal).catch((error: unknown) =>
      logger.warn({ err: error }, 'the coordinator was not told that the certificate has arrived'),
    )
    return report
  } finally {
    await bus.close()
  }
}

const ROOT: Owner = { uid: 0, gid: 0 }
/** Behind the name of the agent's own files. */
const JOINING = /\.[0-9a-f]{16}\.(?:key|pem)$/

interface JoiningFiles extends IdentityFiles {
  /** The invitation by which the host has joined. */
  readonly record: string
}

function filesOfJoining({ ca, certificate }: IdentityFiles, id: string): JoiningFiles {
  const base = certificate.replace(/\.pem$/, '')
  return { ca, certificate: `${base}.${id}.pem`, key: `${base}.${id}.key`, record: `${base}.invitation` }
}

/** Keys and certificates of this invitation, and of those by which the host could not join. */
async function removeJoining({ certificate }: IdentityFiles): Promise<void> {
  const directory = path.dirname(certificate)
  const base = path.basename(certificate, '.pem')
  for (const name of await readdir(directory))
    if (name.startsWith(`${base}.`) && JOINING.test(name)) await unlink(path.join(directory, name))
}

async function ask(bus: Bus, type: 'agent.join', body: { csr: string }, signal: AbortSignal): Promise<Signed>
async function ask(bus: Bus, type: 'agent.joined', body: object, signal: AbortSignal): Promise<object>
async function ask(
  bus: Bus,
  type: 'agent.join' | 'agent.joined',
  body: object,
  signal: AbortSignal,
): Promise<object> {
  const reply = await bus.request(type, body as never, { signal, timeoutMs: ANSWER_MS })
  if (reply.accepted) return reply
  throw HowdahError.of(reply.error)
}

interface Signed {
  readonly certificate: string
  readonly ca: string
}

async function connect(
  { id, brokers, ca, certificate: cert, key, expiresAt }: Invitation,
  logger: Logger,
  now: () => number,
): Promise<Bus> {
  try {
    return await connectBus({
      ...{ url: brokers, appId: 'howdah-join', role: 'client', logger, waitMs: CONNECT_MS },
      tls: { secureContext: createSecureContext({ ca, cert, key }), user: invitedUser(id) },
    })
  } catch (error) {
    throw explained(error, expiresAt, now)
  }
}

/** What OpenSSL says of a server's certificate (X509_verify_cert_error_string), by Node's codes. */
const OTHER_AUTHORITY = /self-signed certificate|unable to verify|unable to get (?:local )?issuer/i
const WRONG_TIME = /certificate (?:is not yet valid|has expired)/i
const REFUSED_LOGIN =
  /ACCESS[-_]REFUSED|alert certificate|alert bad certificate|alert access denied|socket closed/i

/** In words of invitations: the broker says only that it does not let us in. */
function explained(error: unknown, expiresAt: string, now: () => number): unknown {
  if (!(error instanceof HowdahError)) return error
  const { message } = error
  const refused = (why: string) => new HowdahError('unauthorized', why, { cause: error })
  const clock = `this machine's clock says ${new Date(now()).toISOString()}`
  if (OTHER_AUTHORITY.test(message)) {
    return refused(
      `the broker is not of the fleet that the invitation is for: its certificate was not issued by the authority that the invitation names. ${message}`,
    )
  }
  if (WRONG_TIME.test(message)) {
    return refused(`the broker's certificate is not valid now, and ${clock}: is that right? ${message}`)
  }
  if (!REFUSED_LOGIN.test(message)) return error
  const why =
    Date.parse(expiresAt) <= now()
      ? `it expired at ${expiresAt}, and ${clock}`
      : `it was used, withdrawn or replaced by a later one, or it expired by the broker's clock (at ${expiresAt}; ${clock})`
  return refused(
    `the invitation is not valid any more: ${why}. An operator makes another one with "howdah agent invite". ${message}`,
  )
}
