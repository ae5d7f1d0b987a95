/**
 * Makes a failing sequence of operations small: operations after the failure are removed, others are left out in
 * ever smaller groups, and numbers are simplified.
 */
import type { Operation } from './operations.ts'

/** Simpler values of numbers in operations; slots and modes are kept. */
const SIMPLER: Readonly<Record<string, readonly number[]>> = {
  at: [0, 4096, 8192],
  from: [0, 8192],
  size: [0, 1, 8192],
  length: [1, 4096, 8192],
  fill: [1],
}

/** The outcome of a failing run; `index`: the operation that failed. */
export interface Found {
  readonly index: number
}

export interface Shrunk<T extends Found> {
  readonly operations: readonly Operation[]
  readonly found: T
}

/** @param until milliseconds since the epoch, when the smallest sequence found is returned */
export async function shrink<T extends Found>(
  failing: Shrunk<T>,
  run: (operations: readonly Operation[]) => Promise<T | undefined>,
  until: number,
): Promise<Shrunk<T>> {
  let best = cut(failing)

  /** Keeps the candidate when it fails, too. */
  async function keep(operations: readonly Operation[]): Promise<boolean> {
    if (Date.now() > until) return false
    const found = await run(operations)
    if (found !== undefined) best = cut({ operations, found })
    return found !== undefined
  }

  for (let group = best.operations.length; group >= 1 && Date.now() < until; ) {
    let left = false
    // From the end, because later operations depend on earlier ones.
    for (let end = best.operations.length; end > 0; end = Math.min(end - group, best.operations.length)) {
      const { operations } = best
      const smaller = [...operations.slice(0, Math.max(0, end - group)), ...operations.slice(end)]
      if (smaller.length > 0 && (await keep(smaller))) left = true
    }
    if (!left || group > 1) group = Math.floor(group / 2)
  }

  for (let index = 0; index < best.operations.length; index++) {
    for (const [field, values] of Object.entries(SIMPLER)) {
      for (const value of values) {
        const operation = best.operations[index]
        const before = operation?.[field]
        if (operation === undefined || typeof before !== 'number' || before <= value) continue
        if (await keep(best.operations.with(index, { ...operation, [field]: value }))) break
      }
    }
  }
  return best
}

/** Nothing after the operation that failed matters. */
function cut<T extends Found>({ operations, found }: Shrunk<T>): Shrunk<T> {
  return { operations: operations.slice(0, found.index + 1), found }
}
