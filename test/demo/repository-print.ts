/** The fingerprint of a directory tree: shows whether a single byte, name or mode of a repository has changed. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'

export interface TreePrint {
  /** SHA-256 over all entries in the order of their names, hexadecimal. */
  readonly sha256: string
  readonly files: number
  /** Sum of the file sizes. */
  readonly bytes: number
}

/** Reads everything; follows no symbolic link. */
export async function printTree(root: string): Promise<TreePrint> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const paths = entries.map((entry) => join(entry.parentPath, entry.name)).sort()
  const whole = createHash('sha256')
  let files = 0
  let bytes = 0
  for (const path of paths) {
    const status = await lstat(path)
    let content = ''
    if (status.isFile()) {
      const one = createHash('sha256')
      await pipeline(createReadStream(path), one)
      content = one.digest('hex')
      files += 1
      bytes += status.size
    } else if (status.isSymbolicLink()) {
      content = await readlink(path)
    }
    whole.update(
      `${JSON.stringify([relative(root, path), status.mode, status.size, status.mtimeMs, content])}\n`,
    )
  }
  return { sha256: whole.digest('hex'), files, bytes }
}
