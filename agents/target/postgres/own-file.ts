/** Writes files in directories that only the agent may write to, so that a crash of it leaves the old or the new contents. */
import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

export async function writeOwnFile(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', mode)
  try {
    await file.writeFile(text)
    await file.chmod(mode)
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}

/** Creates an empty file that is still there after a power cut. */
export async function createDurableMark(path: string): Promise<void> {
  for (const each of [path, dirname(path)]) {
    const file = await open(each, each === path ? 'w' : 'r', 0o600)
    try {
      await file.sync()
    } finally {
      await file.close()
    }
  }
}
