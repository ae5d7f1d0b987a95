/**
 * Reads what the tree needs of a file's line of backup.manifest, `{"size":8192,"timestamp":1700000000,…}`, directly
 * from the bytes: a manifest has a line per file of the cluster, and parsing each as JSON would take longer than
 * everything else.
 */
import { parseObject } from './ini.ts'

/** Undefined: the line does not have it. */
export interface FileLine {
  size: unknown
  timestamp: unknown
  mode: unknown
  reference: unknown
  /** Whether the checksums of its data pages were valid when it was copied. */
  checksumPage: unknown
}

const QUOTE = 34
const COMMA = 44
const ZERO = 48
const COLON = 58
const BACKSLASH = 92
const OPEN_BRACE = 123
const CLOSE_BRACE = 125
/** Longer numbers may not be exact. */
const MAX_DIGITS = 15

/**
 * Fills `line` from the value at `start`. A line that is not as pgBackRest writes it is left to the JSON parser.
 * @throws MalformedInfo when it is no JSON object
 */
export function readFileLine(key: string, bytes: Buffer, start: number, end: number, line: FileLine): void {
  if (scan(bytes, start, end, line)) return
  const fields = parseObject(key, bytes.toString('utf8', start, end))
  line.size = fields.size
  line.timestamp = fields.timestamp
  line.mode = fields.mode
  line.reference = fields.reference
  line.checksumPage = fields['checksum-page']
}

/** Whether the whole line was understood. */
function scan(bytes: Buffer, start: number, end: number, line: FileLine): boolean {
  line.size = line.timestamp = line.mode = line.reference = line.checksumPage = undefined
  if (bytes[start] !== OPEN_BRACE || bytes[end - 1] !== CLOSE_BRACE) return false
  let at = start + 1
  while (at < end) {
    if (bytes[at] !== QUOTE) return false
    const name = at + 1
    const nameEnd = stringEnd(bytes, name, end)
    if (nameEnd < 0 || bytes[nameEnd + 1] !== COLON) return false
    at = nameEnd + 2
    const valueStart = at
    const first = bytes[at] ?? 0
    let number: number | undefined
    if (first === QUOTE) {
      const close = stringEnd(bytes, at + 1, end)
      if (close < 0) return false
      at = close + 1
    } else if (first >= ZERO && first < COLON) {
      number = 0
      for (let byte = first; byte >= ZERO && byte < COLON; byte = bytes[++at] ?? 0) {
        number = number * 10 + (byte - ZERO)
      }
      if (at - valueStart > MAX_DIGITS || (first === ZERO && at - valueStart > 1)) return false
    } else if (startsWith(bytes, at, 'true')) at += 4
    else if (startsWith(bytes, at, 'false')) at += 5
    else return false

    // Distinguished by length first: this runs for each field of each line.
    switch (nameEnd - name) {
      case 4:
        if (startsWith(bytes, name, 'size')) line.size = number ?? simpleValue(bytes, valueStart, at)
        else if (startsWith(bytes, name, 'mode')) line.mode = number ?? simpleValue(bytes, valueStart, at)
        break
      case 9:
        if (startsWith(bytes, name, 'timestamp')) {
          line.timestamp = number ?? simpleValue(bytes, valueStart, at)
        } else if (startsWith(bytes, name, 'reference')) {
          line.reference = number ?? simpleValue(bytes, valueStart, at)
        }
        break
    }
    const after = bytes[at]
    if (nameEnd - name === 13 && startsWith(bytes, name, 'checksum-page')) {
      line.checksumPage = startsWith(bytes, valueStart, 'true')
    }
    if (at === end - 1) return after === CLOSE_BRACE
    if (after !== COMMA) return false
    at += 1
  }
  return false
}

const simpleValue = (bytes: Buffer, start: number, end: number): unknown =>
  JSON.parse(bytes.toString('utf8', start, end))

/** Where the string that begins at `at` has its closing quote; -1 when it has escapes or does not end. */
function stringEnd(bytes: Buffer, at: number, end: number): number {
  for (let position = at; position < end; position++) {
    const byte = bytes[position] ?? 0
    if (byte === QUOTE) return position
    if (byte === BACKSLASH || byte < 32) return -1
  }
  return -1
}

/** Of ASCII text. */
export function startsWith(bytes: Buffer, at: number, word: string): boolean {
  for (let n = 0; n < word.length; n++) if (bytes[at + n] !== word.charCodeAt(n)) return false
  return true
}
