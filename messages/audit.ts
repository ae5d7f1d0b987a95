/**
 * The entries of the audit stream `howdah.audit`: what was commanded by whom, with what became of it, and how sessions
 * changed. Entries contain no secret: of a command they hold what `requestOf` lists, and nothing else. Pure.
 */
import { z } from 'zod'
import { Tags } from './labels.ts'
import { openReport } from './open-schema.ts'
import { ErrorDetail, Name, RepositoryName, SessionId, Time } from './primitives.ts'
import { SessionState } from './values.ts'

const entry = {
  id: z.string().describe('also the message_id: an entry that comes twice has the same'),
  at: Time,
}

export const AUDIT_ENTRIES = {
  'audit.command': {
    summary: 'A command that changes something, with its sender and what became of it.',
    body: openReport(
      z.object({
        ...entry,
        command: z.string().describe('the type of its message'),
        messageId: z.string().describe('of its message'),
        sender: z.object({
          user: z.string().optional().describe('of the connection, checked by RabbitMQ'),
          application: z.string().optional().describe('app_id: what the sender says of itself'),
        }),
        outcome: z.enum(['accepted', 'refused']),
        error: ErrorDetail.optional(),
        session: SessionId.optional(),
        request: z
          .record(z.string(), z.unknown())
          .describe('what it asked for; of settings only the names, of lists only the length'),
        ...Tags.shape,
      }),
    ),
  },
  'audit.session': {
    summary: 'A session changed its state.',
    body: openReport(
      z.object({
        ...entry,
        session: SessionId,
        version: z.int().min(0).describe('of the session, growing with each change'),
        state: SessionState,
        previous: SessionState.optional().describe('missing: the session is new'),
        repository: Name,
        instance: RepositoryName,
        target: Name,
        error: ErrorDetail.optional(),
        ...Tags.shape,
      }),
    ),
  },
} as const satisfies Record<string, { summary: string; body: z.ZodType }>

export type AuditEntryType = keyof typeof AUDIT_ENTRIES
export type AuditEntry = {
  [T in AuditEntryType]: { readonly type: T; readonly body: z.infer<(typeof AUDIT_ENTRIES)[T]['body']> }
}[AuditEntryType]

/** Parts of commands that are no secret and say what was asked for. Whatever a later command adds is left out until it is listed. */
const SHOWN = [
  ...['session', 'repository', 'instance', 'backup', 'target', 'recoverTo', 'afterRecovery', 'kind', 'name'],
  ...['user', 'superuser', 'port', 'listen', 'expiresIn', 'keepCache', 'unlessChanged', 'discardChanges'],
  ...['alongside', 'remove', 'sessions', 'addresses', 'allowOutbound', 'ttlSeconds', 'format', 'destination'],
]
const COUNTED = ['databases', 'tables', 'rename']

/** What a command asked for, as far as it may be kept. @param body of a command, valid */
export function requestOf(body: unknown): Record<string, unknown> {
  const given = (body ?? {}) as Record<string, unknown>
  const { settings, hba, export: exported } = given
  return {
    ...Object.fromEntries(SHOWN.filter((key) => given[key] !== undefined).map((key) => [key, given[key]])),
    ...Object.fromEntries(
      COUNTED.flatMap((key) => (Array.isArray(given[key]) ? [[key, (given[key] as unknown[]).length]] : [])),
    ),
    ...(typeof settings === 'object' && settings !== null && { settings: Object.keys(settings) }),
    ...(hba !== undefined && { hba: true }),
    ...(exported !== undefined && { export: requestOf(exported) }),
  }
}
