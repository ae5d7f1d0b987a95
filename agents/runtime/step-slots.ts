/** Owns for which slots a step waits: publishing and exports have their own, an undo needs none. */
import { createSlots } from './slots.ts'
import type { StepIdentity } from './step-events.ts'

export interface StepSlots {
  /**
   * Resolves with the function that gives the slot back; undefined when the signal aborts first. `onWait` is called with
   * a sentence for a person when no slot is free.
   */
  acquire(
    step: StepIdentity,
    signal: AbortSignal,
    onWait: (detail: string) => void,
  ): Promise<(() => void) | undefined>
}

/** `concurrency`: sessions whose steps of publishing run at the same time. `exports`: exports that do. */
export function createStepSlots(concurrency: number, exports: number): StepSlots {
  const publishSlots = createSlots(concurrency)
  const exportSlots = createSlots(exports)
  return {
    async acquire({ step, direction }, signal, onWait) {
      // Undoing makes room, and waits for nobody.
      if (direction === 'undo') return () => undefined
      const slots = step === 'export' ? exportSlots : publishSlots
      const others = step === 'export' ? 'exports' : 'steps'
      return slots.acquire(signal, () =>
        onWait(`waits for one of ${slots.count} other ${others} on this agent to end`),
      )
    },
  }
}
