/**
 * The entries of a backup_manifest's array of files, one after another: the manifest of a cluster with thousands of databases
 * has a million of them, and is never in memory as a whole but as its bytes. Pure.
 */

/** Entries between two turns of others; some milliseconds. */
const ENTRIES_PER_TURN = 2_000
/** Where the array begins at the latest: before it are the version and the system identifier. */
const HEAD_BYTES = 4096
/** A path has at most 4096 bytes, of which JSON may make six each. */
const MAX_ENTRY_BYTES = 64 * 1024

const [QUOTE, COMMA, OPEN_BRACE, BACKSLASH, CLOSE_BRACKET, CLOSE_BRACE] = [34, 44, 123, 92, 93, 125] as const

/** It ends, or goes on, in a way that JSON does not. */
export class MalformedEntries extends Error {
  override readonly name = 'MalformedEntries'
}

/**
 * Calls `visit` with each entry, and yields from time to time.
 * @returns the manifest without its entries, as text; undefined where it has no array of files
 * @throws MalformedEntries | SyntaxError
 */
export function* visitEntries(
  bytes: Buffer,
  visit: (entry: Record<string, unknown>) => void,
): Generator<void, string | undefined> {
  const head = /"Files"\s*:\s*\[/.exec(bytes.toString('latin1', 0, HEAD_BYTES))
  if (head === null) return undefined
  const start = head.index + head[0].length
  let at = nextByte(bytes, start)
  for (let count = 1; bytes[at] !== CLOSE_BRACKET; count += 1) {
    if (bytes[at] !== OPEN_BRACE) throw new MalformedEntries('an entry is no object')
    const end = objectEnd(bytes, at)
    visit(JSON.parse(bytes.toString('utf8', at, end)) as Record<string, unknown>)
    at = nextByte(bytes, end)
    if (bytes[at] === COMMA) at = nextByte(bytes, at + 1)
    else if (bytes[at] !== CLOSE_BRACKET) throw new MalformedEntries('it ends within the entries')
    if (count % ENTRIES_PER_TURN === 0) yield
  }
  return `${bytes.toString('utf8', 0, start)}${bytes.toString('utf8', at)}`
}

/** The position after an object of strings and numbers that begins at `at`. @throws MalformedEntries */
function objectEnd(bytes: Buffer, at: number): number {
  const most = Math.min(bytes.length, at + MAX_ENTRY_BYTES)
  let inString = false
  for (let index = at + 1; index < most; index += 1) {
    const byte = bytes[index]
    if (inString) {
      if (byte === BACKSLASH) index += 1
      else if (byte === QUOTE) inString = false
    } else if (byte === QUOTE) inString = true
    else if (byte === CLOSE_BRACE) return index + 1
  }
  throw new MalformedEntries('it ends within an entry, or has one that is too long')
}

/** The position of the next byte that is no white space. */
function nextByte(bytes: Buffer, at: number): number {
  let index = at
  while (index < bytes.length && (bytes[index] ?? 0) <= 32) index += 1
  return index
}
