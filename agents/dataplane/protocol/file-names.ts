/**
 * Owns the conversion of file names and paths between file systems, to which they are bytes, and Howdah, to which they
 * are strings: in the trees of backups, on the data plane and in the mount. UTF-8 is kept as it is. A byte that is not
 * UTF-8 becomes one character of an unused range (U+10FF80 … U+10FFFF, the end of the last private use plane), so that
 * each name has one string and each string one name. A character of that range in a name counts as bytes that are not
 * UTF-8.
 */

const ESCAPED = 0x10ff00
/** What all characters of the range begin with in UTF-16. */
const ESCAPE_MARK = '\udbff'
const NOT_UTF8 = '\ufffd'

/** The string of `bytes[start, end)`. */
export function decodeName(bytes: Buffer, start: number, end: number): string {
  const text = bytes.toString('utf8', start, end)
  return mayNotBeUtf8(text) ? decodeBytewise(bytes.subarray(start, end)) : text
}

/** Writes the bytes of a name and returns how many there are. */
export function encodeName(name: string, target: Buffer, at: number): number {
  if (!hasOtherBytes(name)) return target.write(name, at, 'utf8')
  const bytes = bytesOf(name)
  return bytes.copy(target, at)
}

/** Whether it has bytes that are not UTF-8. */
const hasOtherBytes = (name: string) => name.includes(ESCAPE_MARK)

/** The path as a system call takes it. */
export const systemPath = (path: string): string | Buffer => (hasOtherBytes(path) ? bytesOf(path) : path)

/** Whether a name that was read as UTF-8 may have other bytes, so that it must be read as bytes. */
export const mayNotBeUtf8 = (name: string): boolean => name.includes(NOT_UTF8) || hasOtherBytes(name)

/** How many bytes the name has for the kernel. */
export function nameLength(name: string): number {
  return hasOtherBytes(name) ? bytesOf(name).length : Buffer.byteLength(name)
}

function bytesOf(name: string): Buffer {
  return Buffer.concat(
    Array.from(name, (character) => {
      const point = character.codePointAt(0) ?? 0
      return point >= ESCAPED + 0x80 ? Buffer.of(point - ESCAPED) : Buffer.from(character)
    }),
  )
}

function decodeBytewise(bytes: Buffer): string {
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes[at] ?? 0)
    const character = bytes.toString('utf8', at, at + length)
    const point = character.codePointAt(0) ?? 0
    // Bytes that are the same when encoded again are UTF-8.
    const valid = point < ESCAPED + 0x80 && Buffer.from(character).equals(bytes.subarray(at, at + length))
    text += valid ? character : String.fromCodePoint(ESCAPED + (bytes[at] ?? 0))
    at += valid ? length : 1
  }
  return text
}

/** By the first byte of a character. Source: RFC 3629, section 3. */
function sequenceLength(first: number): number {
  if (first < 0xc0) return 1
  if (first < 0xe0) return 2
  return first < 0xf0 ? 3 : 4
}
