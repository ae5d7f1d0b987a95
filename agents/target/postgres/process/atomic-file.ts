/** Files in directories that only the agent may write to. */
import { access, open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Writes a file so that a crash leaves its old or its new contents.
 * @param crash `machine`: also a power cut; `process`: only of ours, for files that are made anew after a reboot
 * @param gid the group of the file; default: ours
 */
export async function writeFileAtomically(
  path: string,
  text: string,
  mode: number,
  crash: 'machine' | 'process' = 'machine',
  gid?: number,
): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', mode)
  try {
    await file.writeFile(text)
    if (gid !== undefined) await file.chown(process.geteuid?.() ?? 0, gid)
    await file.chmod(mode)
    if (crash === 'machine') await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}

/** Creates an empty file that is still there after a power cut. */
export async function createDurableMarker(path: string): Promise<void> {
  for (const each of [path, dirname(path)]) {
    const file = await open(each, each === path ? 'w' : 'r', 0o600)
    try {
      await file.sync()
    } finally {
      await file.close()
    }
  }
}

/** Whether there is something at the path that this process may look at. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
