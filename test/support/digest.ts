/** Owns the digest of a directory: of every path, type, mode, time, link target and byte below it. */
import { createHash } from 'node:crypto'
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs'

const PIECE_BYTES = 1024 * 1024

/** As bytes: names need not be UTF-8. */
function pathsBelow(directory: Buffer): Buffer[] {
  return readdirSync(directory, { withFileTypes: true, encoding: 'buffer' }).flatMap((entry) => {
    const path = Buffer.concat([directory, Buffer.from('/'), entry.name])
    return entry.isDirectory() ? [path, ...pathsBelow(path)] : [path]
  })
}

/**
 * SHA-256 in hex. Covers everything that a writer could change, so not access times. Synchronous, so the caller must not
 * serve what is read: with a thousand small files, waiting for each would cost more than reading it.
 */
export function directoryDigest(root: string): string {
  const hash = createHash('sha256')
  const piece = Buffer.allocUnsafe(PIECE_BYTES)
  for (const file of pathsBelow(Buffer.from(root)).sort(Buffer.compare)) {
    const stat = lstatSync(file)
    const { mode, uid, gid, mtimeMs, size } = stat
    hash.update(file.subarray(Buffer.byteLength(root)))
    hash.update(`\0${mode.toString(8)}\0${uid}\0${gid}\0${mtimeMs}\0${stat.isFile() ? size : 0}\0`)
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
