/** Times the operations of fuse-native, from the call to the answer. */
import type { ObserveLatency } from '../../../../config/monitoring/latencies.ts'
import { fuseOperation } from './fuse-operations.ts'
import type { Done } from './path-operations.ts'

/** `done`, timed from now on. */
export function timed(name: string, observe: ObserveLatency, done: Done): Done {
  const operation = fuseOperation(name)
  const startedAt = performance.now()
  return (result, ...values) => {
    done(result, ...values)
    // Of a read and a write it is the bytes, or a negative error number.
    const bytes = name === 'read' || name === 'write' ? Math.max(0, result) : 0
    observe(operation, performance.now() - startedAt, bytes)
  }
}

type Operation = (...args: never[]) => void

/** `operations` in fuse-native's form: the callback last. */
export function timedOperations<T extends Record<string, Operation>>(
  operations: T,
  observe: ObserveLatency,
): T {
  const entries = Object.entries(operations).map(([name, operation]) => {
    const call = operation as (...args: unknown[]) => void
    return [
      name,
      (...args: unknown[]) => call(...args.slice(0, -1), timed(name, observe, args.at(-1) as Done)),
    ]
  })
  return Object.fromEntries(entries) as T
}
