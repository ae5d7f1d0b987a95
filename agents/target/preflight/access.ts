/** Tests as the user of an instance whether it can use the directories of sessions. */
import { lchown, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { shellAs } from '../postgres/process/user-process.ts'
import type { SystemUser } from '../postgres/specification.ts'

/** Permission bits are not sufficient: read-only mounts, ACLs, quotas and security modules can deny access too. */
const TRIAL = 'cd "$1" && echo howdah > written && read -r word < written && rm written && cd "$2"'

/** Why the user cannot write below `cacheRoot` or enter `mountRoot`; a sentence, or undefined. */
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
