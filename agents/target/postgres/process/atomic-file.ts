/** Atomic and durable writes of files, in directories that only the agent may write to. */
import { access, open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Writes a file so that a crash leaves either its old or its new contents.
 * @param crash `machine`: also a power failure; `process`: only of the agent, for files that are rewritten after a reboot
 * @param owner whose file it becomes; default: that of this process
 */
export async function writeFileAtomically(
  path: string,
  text: string,
  mode: number,
  crash: 'machine' | 'process' = 'machine',
  owner?: { readonly uid: number; readonly gid: number },
): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', mode)
  try {
    await file.writeFile(text)
    await file.chmod(mode)
    if (owner !== undefined) await file.chown(owner.uid, owner.gid)
    if (crash === 'machine') await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}

/** Creates an empty file that survives a power failure. */
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

/** Whether the path exists and is accessible to this process. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
