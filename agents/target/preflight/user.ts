/** Looks up the operating system user that an instance will run as. */
import { execFile } from 'node:child_process'
import { userInfo } from 'node:os'
import { promisify } from 'node:util'
import type { SystemUser } from '../postgres/specification.ts'
import type { Lookup } from './settings.ts'

const run = promisify(execFile)

/** The user of this process: its name, or its uid if it has none. */
export function ownName(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.geteuid?.() ?? 0)
  }
}

/**
 * The user from whatever source NSS is configured for, in the format of passwd(5). An agent without root cannot change its
 * group, so for its own user the result has the group that it was started with.
 * @throws when getent cannot be run at all
 */
export async function findUser(name: string): Promise<SystemUser | undefined> {
  try {
    const { stdout } = await run('getent', ['passwd', '--', name], { timeout: 10_000 })
    const [found, , uid, gid] = stdout.trim().split(':')
    if (found !== name || uid === undefined || gid === undefined) return undefined
    const self = process.geteuid?.() ?? 0
    const isSelf = self !== 0 && Number(uid) === self
    return { name, uid: Number(uid), gid: isSelf ? (process.getegid?.() ?? Number(gid)) : Number(gid) }
  } catch (error) {
    // getent(1): 2 is "not found".
    if ((error as { code?: unknown }).code === 2) return undefined
    throw error
  }
}

/** @param self uid that the agent runs with */
export async function lookUpUser(name: string, self: number): Promise<Lookup<SystemUser>> {
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
      `The target agent runs as "${ownName()}" (uid ${self}) and not as root, so the user of an instance must be its own, not "${name}". Publish with --user ${ownName()}, set postgres.user in the agent's configuration, or run the agent as root.`,
    )
  return { value: user }
}
