/** One digest of a directory: every path, type, mode, link target and byte below it. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink } from 'node:fs/promises'
import path from 'node:path'

/** SHA-256 in hex. Access times do not count, everything else that a writer could change does. */
export async function directoryDigest(root: string): Promise<string> {
  const hash = createHash('sha256')
  const entries = await readdir(root, { recursive: true })
  for (const name of entries.sort()) {
    const file = path.join(root, name)
    const { mode, uid, gid, mtimeMs, size } = await lstat(file)
    const kind = mode & 0o170000
    hash.update(`${name}\0${mode.toString(8)}\0${uid}\0${gid}\0${mtimeMs}\0${kind === 0o100000 ? size : 0}\0`)
    if (kind === 0o120000) hash.update(await readlink(file))
    if (kind !== 0o100000) continue
    for await (const bytes of createReadStream(file)) hash.update(bytes)
  }
  return hash.digest('hex')
}
