/** What a client notes on a session for its own use: a reference of its own, and labels. Howdah only carries them. */
import { z } from 'zod'

export const MAX_LABELS = 16

/** The client's own name for what it does, such as the number of its job. Not necessarily unique. */
export const Reference = z
  .string()
  .min(1)
  .max(128)
  .regex(/^\P{Cc}+$/u)
  .describe('the own name of a client for this, such as the number of its job; need not be unique')

export const LabelKey = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$/)
  .describe('letters, digits, _, -, . and /, at most 63')

const LabelValue = z
  .string()
  .max(255)
  .regex(/^\P{Cc}*$/u)

/** Labels of a session. */
export const Labels = z
  .record(LabelKey, LabelValue)
  .refine((labels) => Object.keys(labels).length <= MAX_LABELS, `at most ${MAX_LABELS} labels`)
  .describe(`labels of the client, at most ${MAX_LABELS}`)

/** What a session has of these. */
export const Tags = z.object({ reference: Reference.optional(), labels: Labels.optional() })

/** What a command sets. */
export const NewTags = z.object({
  reference: Reference.optional(),
  labels: Labels.optional().describe(
    `added to those of the session, which are at most ${MAX_LABELS}; an empty value removes a label`,
  ),
})

export type Labels = z.infer<typeof Labels>
export type Tags = z.infer<typeof Tags>
