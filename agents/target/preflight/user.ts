/** Looks up the operating system user that an instance is to run as. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { SystemUser } from '../postgres/specification.ts'
import type { Looked } from './settings.ts'

const run = promisify(execFile)

/**
 * The user as the system knows it, from whatever source NSS is configured for; the line is that of passwd(5).
 * @throws when getent cannot be run at all
 */
export async function findUser(name: string): Promise<SystemUser | undefined> {
  try {
    const { stdout } = await run('getent', ['passwd', '--', name], { timeout: 10_000 })
    const [found, , uid, gid] = stdout.trim().split(':')
    if (found !== name || uid === undefined || gid === undefined) return undefined
    return { name, uid: Number(uid), gid: Number(gid) }
  } catch (error) {
    // getent(1): 2 is "not found".
    if ((error as { code?: unknown }).code === 2) return undefined
    throw error
  }
}

/** @param self uid that the agent runs with */
export async function lookUpUser(name: string, self: number): Promise<Looked<SystemUser>> {
  const user = await findUser(name)
  const finding = (code: 'user_missing' | 'user_unusable', message: string) => ({
    findings: [{ code, message, field: 'user' }],
  })
  if (user === undefined)
    return finding(
      'user_missing',
      `The user "${name}" does not exist on the target. Create it (useradd --system ${name}), or publish with --user and one that exists.`,
    )
  if (user.uid === 0)
    return finding(
      'user_unusable',
      `PostgreSQL refuses to run as root ("${name}" has uid 0). Publish with --user and another one, such as postgres.`,
    )
  if (self !== 0 && self !== user.uid)
    return finding(
      'user_unusable',
      `The target agent does not run as root (uid ${self}), so it can run instances as itself only, not as "${name}". Publish with --user and the agent's own user, or run the agent as root.`,
    )
  return { value: user }
}
