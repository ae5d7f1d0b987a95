/**
 * Owns tickets: what a mount agent signs so that a target may reopen its backup at any time, also after the agent has
 * restarted. A ticket binds session, backup and target; the server compares the target with the TLS certificate.
 */
import { createHmac, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto'
import { constants, link, mkdir, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { HowdahError } from '../../../messages/errors.ts'
import { Name, RepositoryName, SessionId, Time } from '../../../messages/primitives.ts'
import { MAX_TICKET_BYTES } from './protocol.ts'

export const Ticket = z.strictObject({
  session: SessionId,
  repository: Name,
  instance: RepositoryName,
  backup: RepositoryName,
  target: Name,
  issuedAt: Time,
})
export type Ticket = z.infer<typeof Ticket>

const VERSION = 'howdah1'
const KEY_BYTES = 32

/** `howdah1.<contents>.<HMAC-SHA256 of all before>`, contents JSON, both base64url. */
export function signTicket(ticket: Ticket, key: Buffer): string {
  const contents = Buffer.from(JSON.stringify(Ticket.parse(ticket))).toString('base64url')
  const signed = `${VERSION}.${contents}`
  return `${signed}.${signature(signed, key).toString('base64url')}`
}

/**
 * The contents of a ticket that this key signed; the comparison takes constant time.
 * @throws HowdahError `unauthorized`
 */
export function verifyTicket(text: string, key: Buffer): Ticket {
  const cut = text.lastIndexOf('.')
  if (text.length > MAX_TICKET_BYTES || cut < 0) throw refused()
  const signed = text.slice(0, cut)
  const given = Buffer.from(text.slice(cut + 1), 'base64url')
  const expected = signature(signed, key)
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw refused()
  const [version, contents = ''] = signed.split('.')
  if (version !== VERSION) throw refused()
  try {
    return Ticket.parse(JSON.parse(Buffer.from(contents, 'base64url').toString('utf8')))
  } catch (cause) {
    throw refused(cause)
  }
}

/**
 * The key that a mount agent signs with: 32 random bytes in a file of mode 0600, created when there is none. Two
 * processes that create it at once end up with the same key.
 * @throws HowdahError `configuration` when the file is not such a key, or others may read it
 */
export async function loadTicketKey(path: string): Promise<Buffer> {
  try {
    return await readKey(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${randomUUID()}`
  const file = await open(temporary, 'wx', 0o600)
  try {
    await file.writeFile(randomBytes(KEY_BYTES))
    await file.sync()
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  } finally {
    await file.close()
    await unlink(temporary)
  }
  return readKey(path)
}

async function readKey(path: string): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const { mode, size } = await file.stat()
    if ((mode & 0o077) !== 0) {
      throw new HowdahError('configuration', `${path} may be read by others; run chmod 600 on it.`)
    }
    if (size !== KEY_BYTES) {
      throw new HowdahError(
        'configuration',
        `${path} is not a ticket key (${KEY_BYTES} bytes); remove it and a new one is made.`,
      )
    }
    return await file.readFile()
  } finally {
    await file.close()
  }
}

function signature(signed: string, key: Buffer): Buffer {
  return createHmac('sha256', key).update(signed).digest()
}

function refused(cause?: unknown): HowdahError {
  return new HowdahError('unauthorized', 'The ticket was not signed by this mount server; publish again.', {
    cause,
  })
}
