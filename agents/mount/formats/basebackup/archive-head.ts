/**
 * What the beginning of a tar archive tells without the whole of it being decoded: listing backups must not cost a
 * pass over each. Whoever opens a backup asks its index instead.
 */
import { open } from 'node:fs/promises'
import { pipeline, type Readable } from 'node:stream'
import { damaged, type StoredFile } from '../../decode/stored-file.ts'
import { createDecoder } from '../../decode/transform.ts'
import { MalformedTar, UnsupportedTar } from '../tar/tar-header.ts'
import { type TarMember, tarMembers } from '../tar/tar-members.ts'

/** Plain bytes that are looked at. */
const HEAD_BYTES = 8 * 1024 * 1024

export interface HeadMember extends TarMember {
  /** Of the data, as much as is in the head. */
  readonly data: Buffer
}

/**
 * The members at the beginning of an archive.
 * @param enough ends it early
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
    // Its end is the head's, most likely; what is wrong farther on is found when the backup is opened.
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
    // As much as there was may be enough.
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
