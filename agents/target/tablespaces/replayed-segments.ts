/** Finds the tablespaces that the WAL in a server's pg_wal creates: what it has replayed or was about to replay. */
import { open, readdir } from 'node:fs/promises'
import { parseSegmentName, segmentStart } from '../../wal/lsn.ts'
import { scanSegment } from '../../wal/scan-segment.ts'
import { readSegmentHeader } from '../../wal/wal-pages.ts'
import { type CreatedTablespace, createdTablespace, isTablespaceCreation } from './wal-tablespaces.ts'

const SEGMENT = /^[0-9A-F]{24}$/
/** The record at which a server ended is in its last segment, or began in the one before. */
const LAST_SEGMENTS = 2
const HEAD_BYTES = 64 * 1024

/** Searches the last restored segments; the server must have ended. */
export async function createdInLastSegments(pgWal: string): Promise<CreatedTablespace[]> {
  const segments = await validSegments(pgWal)
  const created: CreatedTablespace[] = []
  for (const [index, { name, base }] of segments.entries()) {
    if (index < segments.length - LAST_SEGMENTS) continue
    const following = segments[index + 1]
    const next = following && (await readStart(`${pgWal}/${following.name}`, HEAD_BYTES))
    const segment = await readStart(`${pgWal}/${name}`)
    scanSegment(segment, {
      base,
      next,
      wanted: isTablespaceCreation,
      visit: (record) => {
        const found = createdTablespace(record)
        if (found !== undefined) created.push(found)
      },
    })
  }
  return created
}

/** Segments by position. Recycled files, which still have their old contents, are left out. */
async function validSegments(pgWal: string): Promise<{ readonly name: string; readonly base: bigint }[]> {
  const found: { name: string; base: bigint }[] = []
  for (const name of (await readdir(pgWal)).filter((each) => SEGMENT.test(each)).sort()) {
    const header = readSegmentHeader(await readStart(`${pgWal}/${name}`, HEAD_BYTES))
    if (header === undefined) continue
    const { base, segmentBytes } = header
    const place = parseSegmentName(name, segmentBytes)
    if (place !== undefined && base === segmentStart(place.segment, segmentBytes)) found.push({ name, base })
  }
  return found.sort((a, b) => (a.base < b.base ? -1 : a.base > b.base ? 1 : 0))
}

/** @param most bytes; default all */
async function readStart(path: string, most = Number.POSITIVE_INFINITY): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    const buffer = Buffer.alloc(Math.min(most, (await file.stat()).size))
    let got = 0
    while (got < buffer.length) {
      const { bytesRead } = await file.read(buffer, got, buffer.length - got, got)
      if (bytesRead === 0) break
      got += bytesRead
    }
    return buffer.subarray(0, got)
  } finally {
    await file.close()
  }
}
