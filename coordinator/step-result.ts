/** Validates the results of steps, as agents report them. */
import { z } from 'zod'
import type { EventBody } from '../messages/definitions.ts'
import { HowdahError } from '../messages/errors.ts'

/** @throws HowdahError `invalid_message` when an agent's result does not have the shape of its step */
export function parseResult<T extends z.ZodType>(
  schema: T,
  event: EventBody<'session.step-done'>,
): z.infer<T> {
  const parsed = schema.safeParse(event.result)
  if (parsed.success) return parsed.data
  throw new HowdahError(
    'invalid_message',
    `the result of ${event.direction} ${event.step} does not match the schema of its step: ${z.prettifyError(parsed.error)}`,
  )
}
