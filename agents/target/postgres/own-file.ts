/** Writes files in directories that only the agent may write to, so that a crash leaves the old or the new contents. */
import { open, rename } from 'node:fs/promises'

export async function writeOwnFile(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', mode)
  try {
    await file.writeFile(text)
    await file.chmod(mode)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}
