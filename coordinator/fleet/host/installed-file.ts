/**
 * Files of Howdah outside its own directories: units and init scripts. They are replaced by those of another version only
 * while nobody edited them, which a checksum in one of their lines shows.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { ensureFile, readIfThere } from './managed-file.ts'

const ROOT = { uid: 0, gid: 0 }
const MARK = /^# Installed by howdah, which replaces it while this is its SHA-256: ([0-9a-f]{64})\n/m

/** One of the files beside this module, in files/. */
export function ownFile(name: string, values: Readonly<Record<string, string>> = {}): string {
  const text = readFileSync(new URL(`./files/${name}`, import.meta.url), 'utf8')
  return text.replace(/@([A-Z]+)@/g, (placeholder, key: string) => values[key] ?? placeholder)
}

/** `edited`: left as it is, since somebody changed it. */
export type Installed = 'changed' | 'kept' | 'edited'

export async function installFile(file: string, text: string, mode: number): Promise<Installed> {
  const existing = await readIfThere(file)
  if (existing !== undefined && !isUnedited(existing)) return 'edited'
  return (await ensureFile(file, marked(text), { mode, owner: ROOT })) ? 'changed' : 'kept'
}

/** @returns whether it was there; an edited one is removed, too */
export async function removeFile(file: string): Promise<boolean> {
  try {
    await unlink(file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return false
  }
}

/** The mark goes after the line that names the interpreter. */
function marked(text: string): string {
  const line = `# Installed by howdah, which replaces it while this is its SHA-256: ${digest(text)}\n`
  const at = text.startsWith('#!') ? text.indexOf('\n') + 1 : 0
  return text.slice(0, at) + line + text.slice(at)
}

function isUnedited(text: string): boolean {
  const [line, sum] = MARK.exec(text) ?? []
  return line !== undefined && digest(text.replace(line, '')) === sum
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
