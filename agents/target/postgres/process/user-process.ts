/** How programs are started as another user of the operating system. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { SystemUser } from '../specification.ts'

const run = promisify(execFile)

/**
 * The part of child_process options that makes a child run as `user`. Empty when we are that user: changing to oneself
 * needs privileges too. libuv drops the supplementary groups with it (src/unix/process.c), and PostgreSQL needs none.
 */
export function runAs(user: SystemUser): { uid?: number; gid?: number } {
  if (process.geteuid?.() === user.uid && process.getegid?.() === user.gid) return {}
  return { uid: user.uid, gid: user.gid }
}

/**
 * Runs a line of shell as `user`, with `args` as its $1 and so on; gives what it writes.
 * @throws Error with the last line that it said, in English, or how it ended
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
