/**
 * The step that a refused message was to run or undo, so that its agent can report that it failed: a step has no reply, and
 * its coordinator would send it again for ever. Pure.
 */
import type { ConsumeMessage } from 'amqplib'
import { z } from 'zod'
import type { EventBody } from './definitions.ts'
import { parseJson } from './json.ts'
import { Sequence, SessionId } from './primitives.ts'
import type { StepName } from './values.ts'

export type RefusedStep = Pick<
  EventBody<'session.step-failed'>,
  'session' | 'step' | 'direction' | 'sequence'
>

/** What every version of the command has. */
const AnyStep = z.object({ session: SessionId, step: z.string().min(1).max(100), sequence: Sequence })

/** Undefined for any other message. */
export function refusedStep({ properties, content }: ConsumeMessage): RefusedStep | undefined {
  const type: unknown = properties.type
  if (type !== 'step.run' && type !== 'step.undo') return undefined
  const { data } = AnyStep.safeParse(parseJson(content)?.value)
  return data && { ...data, step: data.step as StepName, direction: type === 'step.run' ? 'run' : 'undo' }
}
