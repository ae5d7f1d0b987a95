/**
 * Reads the WAL that recovery begins with while PostgreSQL is still on its way to asking for it: fetching and decoding
 * it takes as long as the server's start, and both can be done at once.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type InstanceSpec, instancePaths } from './specification.ts'

/**
 * Has the kernel keep the first segment that the backup needs, until aborted. Never rejects: it only saves time. A child
 * reads, for what it waits for may never come.
 */
export async function fetchNeededWal(spec: InstanceSpec, signal: AbortSignal): Promise<void> {
  const first = spec.neededWal?.first
  if (first === undefined || first.includes('/')) return
  const child = spawn('cat', ['--', `${instancePaths(spec).wal}/${first}`], {
    cwd: '/',
    stdio: 'ignore',
    signal,
    killSignal: 'SIGKILL',
  })
  child.unref()
  // PostgreSQL tells of what is missing or damaged, where it matters.
  await once(child, 'exit').catch(() => undefined)
}
