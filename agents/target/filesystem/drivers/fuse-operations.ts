/** The operations of a FUSE file system by number, with the names by which their latencies are shown. */
import { OP } from './kernel/protocol.ts'

/** By the number in the kernel's protocol; what has no name there has none here. */
export const FUSE_OPERATIONS: readonly string[] = Array.from(
  { length: Math.max(...Object.values(OP)) + 1 },
  (_, number) =>
    Object.entries(OP)
      .find(([, code]) => code === number)?.[0]
      .toLowerCase() ?? 'other',
)

/** The number of an operation that libfuse names; 0, which is `other`, where the kernel's protocol has another name. */
export function fuseOperation(name: string): number {
  return Math.max(0, FUSE_OPERATIONS.indexOf(name))
}
