/**
 * Reads the members at the beginning of a tar archive without decoding all of it: listing backups must not cost a pass
 * over each. Opening a backup uses its index instead.
 */
import { open } from 'node:fs/promises'
import { pipeline, type Readable } from 'node:stream'
import { damaged, type StoredFile } from '../../decode/stored-file.ts'
import { createDecoder } from '../../decode/transform.ts'
import { MalformedTar, UnsupportedTar } from '../tar/tar-header.ts'
import { type TarMember, tarMembers } from '../tar/tar-members.ts'

/** Plain bytes that are read. */
const HEAD_BYTES = 8 * 1024 * 1024

export interface HeadMember extends TarMember {
  /** The part of its data that is in the head. */
  readonly data: Buffer
}

/**
 * The members at the beginning of an archive.
 * @param enough stops when it returns true
 * @throws HowdahError `backup_damaged`; errors of system calls as they are
 */
export async function headMembers(
  archive: StoredFile,
  enough: (found: readonly HeadMember[]) => boolean,
): Promise<HeadMember[]> {
  const head = await headOf(archive)
  const found: HeadMember[] = []
  try {
    for await (const member of tarMembers(async (offset, length) => head.subarray(offset, offset + length))) {
      found.push({ ...member, data: head.subarray(member.offset, member.offset + member.size) })
      if (enough(found)) break
    }
  } catch (error) {
    // Most likely the head ends in the middle of a member; damage further on is found when the backup is opened.
    if (!(error instanceof MalformedTar || error instanceof UnsupportedTar)) throw error
    if (found.length === 0) throw damaged(archive, error.message, error)
  }
  return found
}

async function headOf(archive: StoredFile): Promise<Buffer> {
  const file = await open(archive.region.path)
  const stored = file.createReadStream({ highWaterMark: 64 * 1024 })
  let stream: Readable = stored
  for (const transform of archive.transforms) {
    const next = createDecoder(transform)
    pipeline(stream, next, () => undefined)
    stream = next
  }
  const pieces: Buffer[] = []
  let bytes = 0
  try {
    for await (const piece of stream as AsyncIterable<Buffer>) {
      pieces.push(piece)
      bytes += piece.length
      if (bytes >= HEAD_BYTES) break
    }
  } catch (error) {
    // What was decoded may be enough.
    if (bytes === 0) {
      throw damaged(
        archive,
        `it does not decode, ${error instanceof Error ? error.message : String(error)}`,
        error,
      )
    }
  } finally {
    stored.destroy()
  }
  return Buffer.concat(pieces)
}
