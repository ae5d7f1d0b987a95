/** One digest of a directory: every path, type, mode, time, link target and byte below it. */
import { createHash } from 'node:crypto'
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs'
import path from 'node:path'

const PIECE_BYTES = 1024 * 1024

/**
 * SHA-256 in hex. Access times do not count, everything else that a writer could change does. Blocks its caller, who
 * may not serve what it reads: with a thousand small files, waiting for each costs more than reading it.
 */
export function directoryDigest(root: string): string {
  const hash = createHash('sha256')
  const piece = Buffer.allocUnsafe(PIECE_BYTES)
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' }).sort()) {
    const file = path.join(root, name)
    const stat = lstatSync(file)
    const { mode, uid, gid, mtimeMs, size } = stat
    hash.update(`${name}\0${mode.toString(8)}\0${uid}\0${gid}\0${mtimeMs}\0${stat.isFile() ? size : 0}\0`)
    if (stat.isSymbolicLink()) hash.update(readlinkSync(file))
    if (!stat.isFile()) continue
    const opened = openSync(file, 'r')
    try {
      for (let read = 1; read > 0; ) {
        read = readSync(opened, piece)
        hash.update(piece.subarray(0, read))
      }
    } finally {
      closeSync(opened)
    }
  }
  return hash.digest('hex')
}
