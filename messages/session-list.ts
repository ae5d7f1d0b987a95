/** `session.list`: which sessions it shows, and as what. */
import { z } from 'zod'
import { Labels, Reference } from './labels.ts'
import { Bytes, ErrorDetail, Name, RepositoryName, Time } from './primitives.ts'
import { SessionState, SessionView } from './values.ts'

export const DEFAULT_PAGE = 100
export const MAX_PAGE = 500

export const SessionListBody = z.strictObject({
  all: z
    .boolean()
    .optional()
    .describe('closed and failed ones too; default: only where `state` asks for them'),
  session: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,39}$/)
    .optional()
    .describe('the id, or a beginning of it'),
  state: z.array(SessionState).min(1).max(20).optional().describe('in one of these states'),
  target: Name.optional(),
  repository: Name.optional(),
  instance: RepositoryName.optional(),
  reference: Reference.optional(),
  labels: Labels.optional().describe('with all of these labels'),
  since: Time.optional().describe('made at this time or later'),
  until: Time.optional().describe('made before this time'),
  changedSince: Time.optional().describe(
    'changed at this time or later: what a client missed while it was away',
  ),
  limit: z.int().min(1).max(MAX_PAGE).optional().describe(`sessions in one reply; default: ${DEFAULT_PAGE}`),
  cursor: z
    .string()
    .min(1)
    .max(500)
    .optional()
    .describe('that of the reply before, with the same filters: what follows it'),
})

/** A session in a list: what tells it apart. `session.show` has the rest. */
export const SessionSummary = SessionView.pick({
  ...{
    id: true,
    version: true,
    state: true,
    step: true,
    repository: true,
    instance: true,
    backup: true,
    recoverTo: true,
  },
  ...{ target: true, reference: true, labels: true, messageId: true, createdAt: true, updatedAt: true },
  ...{ connection: true, mountPoint: true, writeCache: true, usage: true, afterRecovery: true, paused: true },
  ...{ expiresAt: true, retryAt: true, awaitsRetry: true, keptCache: true },
}).extend({ error: ErrorDetail.optional() })

/** What the sessions of a target take, whichever of them the list shows. */
export const TargetUsage = z.object({
  target: Name,
  sessions: z.int().min(0).describe('those that are not closed'),
  cacheBytes: Bytes.describe('write caches of all its sessions, as far as their sizes are known'),
})

/** The answer, beside `accepted`. */
export const SessionListReply = {
  sessions: z.array(SessionSummary).describe('newest first'),
  more: z.boolean().describe('there are more: send `cursor` for them'),
  cursor: z.string().optional(),
  targets: z
    .array(TargetUsage)
    .optional()
    .describe('of all targets with sessions; in the answer to a list without a cursor'),
}

export type SessionListBody = z.infer<typeof SessionListBody>
export type SessionSummary = z.infer<typeof SessionSummary>
export type TargetUsage = z.infer<typeof TargetUsage>
