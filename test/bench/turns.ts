/** Owns measuring two things in turns, so that a machine that is slow for a while is slow for both. */
import type { Scope } from './scope.ts'
import type { Workshop } from './workshop.ts'

export interface Turns {
  readonly howdah: readonly number[]
  readonly instead: readonly number[]
}

export interface TurnsOptions {
  readonly workshop: Workshop
  readonly scope: Scope
  /** Named where progress is shown. */
  readonly what: string
  readonly count: number
}

/** Howdah, the other, Howdah, the other, … @throws Error when the bench was interrupted, and the errors of `measure` */
export async function inTurns<T>(
  { workshop, scope, what, count }: TurnsOptions,
  [howdah, other]: readonly [howdah: T, other: T],
  measure: (one: T, turn: number) => Promise<number>,
): Promise<Turns> {
  const values = { howdah: [] as number[], instead: [] as number[] }
  for (let turn = 0; turn < count; turn++) {
    workshop.say(`  ${what}, ${turn + 1} of ${count} …`)
    scope.check()
    values.howdah.push(await measure(howdah, turn))
    scope.check()
    values.instead.push(await measure(other, turn))
  }
  return values
}
