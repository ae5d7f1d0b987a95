/** Whether the user of an instance can really use the directories of sessions, found out by doing it as that user. */
import { execFile } from 'node:child_process'
import { lchown, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { SystemUser } from '../postgres/specification.ts'
import { identity } from '../postgres/user-process.ts'

const run = promisify(execFile)

/** Permission bits do not say all: read-only mounts, ACLs, quotas and security modules have a say too. */
const TRIAL = 'cd "$1" && echo howdah > written && read -r word < written && rm written && cd "$2"'

/** What keeps the user from writing below `cacheRoot` and from entering `mountRoot`; a sentence, or undefined. */
export async function accessProblem(
  { cacheRoot, mountRoot }: { readonly cacheRoot: string; readonly mountRoot: string },
  user: SystemUser,
): Promise<string | undefined> {
  const directory = await mkdtemp(join(cacheRoot, '.access-'))
  try {
    if (process.geteuid?.() === 0) await lchown(directory, user.uid, user.gid)
    const options = { ...identity(user), cwd: '/', timeout: 10_000, env: { LC_ALL: 'C' } }
    await run('/bin/sh', ['-c', TRIAL, 'sh', directory, mountRoot], options)
    return undefined
  } catch (error) {
    const { stderr = '', message } = error as { stderr?: string; message: string }
    const reason = stderr.trim().split('\n').at(-1) ?? message
    return `The user "${user.name}" cannot work in ${cacheRoot} and ${mountRoot}: ${reason}. Permission bits allow it, so look at mount options, access control lists and security modules (SELinux, AppArmor).`
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
