/** Owns waiting for the moment at which an agent begins a step of a session. */
import type { Bus, EventDelivery } from '../../messages/bus.ts'
import type { StepName } from '../../messages/values.ts'

/** Resolves when an agent has begun that step of the session; at once where it had begun before. */
export type UntilStep = (session: string, step: StepName, direction?: 'run' | 'undo') => Promise<void>

/** Sees the steps that begin from now on. */
export async function watchSteps(bus: Bus): Promise<UntilStep> {
  const events: EventDelivery[] = []
  const waiting = new Set<() => void>()
  await bus.watchEvents('session.#', (delivery) => {
    events.push(delivery)
    for (const wake of waiting) wake()
    waiting.clear()
  })
  return async (session, step, direction = 'run') => {
    const isWanted = ({ type, body }: EventDelivery): boolean =>
      type === 'session.step-started' &&
      body.session === session &&
      body.step === step &&
      body.direction === direction
    while (!events.some(isWanted)) await new Promise<void>((resolve) => waiting.add(resolve))
  }
}
