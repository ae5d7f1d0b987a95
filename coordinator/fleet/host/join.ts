/**
 * Joins the fleet by an invitation: this host's key, its certificate from the fleet's authority over the broker, and the
 * word that it has arrived. Safe to repeat until then. Trusts nobody but the authority that the invitation names.
 */
import { createSecureContext } from 'node:tls'
import type { Logger } from 'pino'
import { connectBus } from '../../../messages/amqp-bus.ts'
import type { Bus } from '../../../messages/bus.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { invitedUser } from '../../../messages/permissions.ts'
import type { IdentityFiles } from './host-paths.ts'
import { acceptCertificate, hasIdentity, requestCertificate } from './identity.ts'
import type { Invitation } from './invitation-token.ts'
import type { Owner } from './managed-file.ts'
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
  const { kind, name, addresses } = invitation
  if (await hasIdentity(files, { kind, name, ca: invitation.ca }, new Date(now()))) {
    note(report, `${files.certificate}: this host has joined before`, false)
    return report
  }
  const csr = await requestCertificate(files, { kind, name, addresses }, owner)
  const bus = await connect(invitation, logger, now)
  try {
    const signed = await ask(bus, 'agent.join', { csr }, signal)
    const { certificate, ca } = signed
    if (ca.trim() !== invitation.ca.trim()) {
      throw new HowdahError(
        'unauthorized',
        'the coordinator signs with another authority than the invitation names; an operator makes another one with "howdah agent invite"',
      )
    }
    for (const file of await acceptCertificate(files, kind, { certificate, ca }, owner, new Date(now())))
      note(report, file, true)
    // Without this word the invitation is of use for this host's key only, until it expires.
    await ask(bus, 'agent.joined', {}, signal).catch((error: unknown) =>
      logger.warn({ err: error }, 'the coordinator was not told that the certificate has arrived'),
    )
    return report
  } finally {
    await bus.close()
  }
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
