/** The basic values of messages: names, numbers, times, errors. */
import { z } from 'zod'
import { ERROR_CODES, type ErrorBody, type ErrorCode, withRetryable } from './errors.ts'

/** Names of agents, repositories and targets. They become parts of queue names and routing keys. */
export const Name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/)
  .describe('letters, digits, _ and -, at most 63')

/** Instance names and backup labels as in the repository. Never a path. */
export const RepositoryName = z
  .string()
  .min(1)
  .max(255)
  .regex(/^(?!\.{1,2}$)[^/\p{Cc}]+$/u)
  .describe('a name as in the repository: no slash, no control character')

export const SessionId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,39}$/)
  .describe('assigned by the coordinator: a part of the instance name and random characters')

/** POSIX portable user names, and what useradd allows. */
export const UserName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/)

export const Port = z.int().min(1).max(65535)

/** Bytes; a JSON number is exact to 9 PB. */
export const Bytes = z.int().min(0)

/** Number of a step command within its session. The highest one is valid, lower ones are stale. */
export const Sequence = z.int().min(1)

/** ISO 8601 with offset. */
export const Time = z.iso.datetime({ offset: true })

const errorFields = {
  code: z.enum(Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]]),
  message: z.string(),
  field: z.string().optional(),
  retryable: z.boolean().describe('whether the same request can succeed later unchanged'),
}

/** Fills in `retryable` where the sender left it to the table of error codes. */
function completed<T extends z.ZodType>(schema: T) {
  return z.preprocess(
    (error) => (ErrorLike.safeParse(error).success ? withRetryable(error as ErrorBody) : error),
    schema,
  )
}

const ErrorLike = z.object({
  code: z.string(),
  details: z.array(z.object({ code: z.string() })).optional(),
})

/** One error: the code to decide by, and the message to read. */
export const ErrorDetail: z.ZodType<ErrorBody> = completed(z.object(errorFields))

export const ErrorSchema: z.ZodType<ErrorBody> = completed(
  z.object({
    ...errorFields,
    details: z.array(ErrorDetail).optional().describe('each finding, where there are several'),
  }),
)

/** A finding of a check. An `error` prevents publishing, a `warning` does not. */
export const Finding: z.ZodType<Omit<ErrorBody, 'details'> & { level: 'error' | 'warning' }> = completed(
  z.object({ level: z.enum(['error', 'warning']), ...errorFields }),
)

/** `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`. */
export const OutboundHost = z
  .string()
  .max(300)
  .regex(/^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)(?::[0-9]{1,5})?$/)

export type Finding = z.infer<typeof Finding>
