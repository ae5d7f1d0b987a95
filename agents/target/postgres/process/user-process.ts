/** Runs programs as another operating system user. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { SystemUser } from '../specification.ts'

const run = promisify(execFile)

/**
 * The child_process options that make a child run as `user`. Empty if this process already does, since even a change to the
 * same user takes privileges. libuv also drops the supplementary groups (src/unix/process.c); PostgreSQL needs none.
 */
export function runAs(user: SystemUser): { uid?: number; gid?: number } {
  if (process.geteuid?.() === user.uid && process.getegid?.() === user.gid) return {}
  return { uid: user.uid, gid: user.gid }
}

/**
 * Runs a shell script as `user`, with `args` as $1 and following. @returns its stdout
 * @throws Error with the last line of its stderr, in English, or how it ended
 */
export async function shellAs(
  user: SystemUser,
  script: string,
  args: readonly string[],
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<string> {
  const options = {
    ...runAs(user),
    ...{ cwd: '/', env: { LC_ALL: 'C' }, timeout: timeoutMs, killSignal: 'SIGKILL' as const },
    ...(signal && { signal }),
  }
  try {
    return (await run('/bin/sh', ['-c', script, 'sh', ...args], options)).stdout
  } catch (error) {
    signal?.throwIfAborted()
    const { stderr = '', message } = error as { stderr?: string; message: string }
    throw new Error(stderr.trim().split('\n').at(-1) || message, { cause: error })
  }
}
