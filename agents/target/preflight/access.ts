/** Whether the user of an instance can really use the directories of sessions, found out by doing it as that user. */
import { lchown, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { shellAs } from '../postgres/process/user-process.ts'
import type { SystemUser } from '../postgres/specification.ts'

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
    await shellAs(user, TRIAL, [directory, mountRoot], { timeoutMs: 10_000 })
    return undefined
  } catch (error) {
    return `The user "${user.name}" cannot work in ${cacheRoot} and ${mountRoot}: ${(error as Error).message}. Permission bits allow it, so look at mount options, access control lists and security modules (SELinux, AppArmor).`
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
