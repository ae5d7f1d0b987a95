/** The release of the running kernel, for what cannot be found out by trying. Distributions may have added to theirs. */
import { release } from 'node:os'

/** Whether the kernel is of this release of Linux or a later one. */
export function isKernelAtLeast(major: number, minor: number): boolean {
  const [ours = 0, theirs = 0] = release().split('.').map(Number)
  return ours > major || (ours === major && theirs >= minor)
}
