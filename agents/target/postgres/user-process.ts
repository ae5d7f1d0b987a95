/** How programs are started as another user of the operating system. */
import type { SystemUser } from './specification.ts'

/**
 * The part of child_process options that makes a child run as `user`. Empty when we are that user: changing to oneself
 * needs privileges too. libuv drops the supplementary groups with it (src/unix/process.c), and PostgreSQL needs none.
 */
export function identity(user: SystemUser): { uid?: number; gid?: number } {
  if (process.geteuid?.() === user.uid && process.getegid?.() === user.gid) return {}
  return { uid: user.uid, gid: user.gid }
}
