/**
 * Reads the WAL that recovery begins with while PostgreSQL is still on its way to asking for it: fetching and decoding
 * it takes as long as the server's start, and both can be done at once.
 */
import { open } from 'node:fs/promises'
import { type InstanceSpec, instancePaths } from './specification.ts'

const CHUNK = 1024 * 1024

/** Has the kernel keep the first segment that the backup needs, until aborted. Never rejects: it only saves time. */
export async function fetchNeededWal(spec: InstanceSpec, signal: AbortSignal): Promise<void> {
  const first = spec.neededWal?.first
  if (first === undefined || first.includes('/')) return
  try {
    const file = await open(`${instancePaths(spec).wal}/${first}`, 'r')
    try {
      const chunk = Buffer.allocUnsafe(CHUNK)
      while (!signal.aborted && (await file.read(chunk, 0, CHUNK)).bytesRead > 0);
    } finally {
      await file.close()
    }
  } catch {
    // PostgreSQL tells of what is missing or damaged, where it matters.
  }
}
