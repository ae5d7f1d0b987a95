/**
 * pgBackRest's own file format (doc/xml/… "format 5", src/info/info.c, src/common/ini.c): INI sections of `key=JSON`
 * lines, and in section `[backrest]` at the end a SHA-1 over everything before it.
 *
 * Large manifests have a line per file of the cluster: the bytes are scanned once, and only requested parts become
 * strings.
 */
import { createHash, type Hash } from 'node:crypto'
import { Passphrase } from '../../decode/aes-cbc.ts'

/** A file that does not have this format. Callers know the file's name, and whether there is a copy to try. */
export class MalformedInfo extends Error {
  override readonly name = 'MalformedInfo'
}

/** A `key=value` line; positions in the file's bytes. */
export interface InfoLine {
  readonly keyStart: number
  readonly keyEnd: number
  readonly valueStart: number
  readonly valueEnd: number
}

const LINE_FEED = 10
const QUOTE = 34
const COMMA = 44
const COLON = 58
const EQUALS = 61
const OPEN_BRACKET = 91
const BACKSLASH = 92
const CLOSE_BRACKET = 93

const BATCH_BYTES = 64 * 1024

/** Lines between two turns of others; some milliseconds. */
const LINES_PER_TURN = 2_000

/**
 * Calls `visit` with every `key=value` line, in order, and verifies the checksum at the end. The line object is reused
 * after `visit` returns. Yields from time to time: the manifest of thousands of databases has a million lines.
 * @throws MalformedInfo
 */
export function* scanInfo(
  bytes: Buffer,
  visit: (section: string, line: InfoLine) => void,
): Generator<void, void> {
  const checksum = new Checksum(bytes)
  const line = { keyStart: 0, keyEnd: 0, valueStart: 0, valueEnd: 0 }
  let section: string | undefined
  let found: string | undefined
  /** Position of the first `=` from the line's start on. */
  let equals = -1
  let lines = 0
  for (let start = 0, end = 0; start < bytes.length; start = end + 1) {
    end = bytes.indexOf(LINE_FEED, start)
    if (end < 0) end = bytes.length
    if (end === start) continue
    if (bytes[start] === OPEN_BRACKET && bytes[end - 1] === CLOSE_BRACKET) {
      section = bytes.toString('utf8', start + 1, end - 1)
      continue
    }
    if (section === undefined) throw new MalformedInfo('it does not start with a section')
    if (equals < start) equals = next(bytes, EQUALS, start)
    let keyEnd = equals
    equals = next(bytes, EQUALS, keyEnd + 1)
    // Names of files and databases may contain one.
    if (equals < end) keyEnd = separator(bytes, keyEnd, end)
    if (keyEnd >= end) throw new MalformedInfo(`section [${section}] has a line that is no key=value`)
    line.keyStart = start
    line.keyEnd = keyEnd
    line.valueStart = keyEnd + 1
    line.valueEnd = end
    if (section === 'backrest' && bytes.toString('utf8', start, keyEnd) === 'backrest-checksum') {
      found = bytes.toString('utf8', keyEnd + 1, end)
      continue
    }
    checksum.add(section, line)
    visit(section, line)
    lines += 1
    if (lines % LINES_PER_TURN === 0) yield
  }
  if (found === undefined) throw new MalformedInfo('it has no checksum, so it is not complete')
  if (found !== `"${checksum.digest()}"`) throw new MalformedInfo('its contents do not match its checksum')
}

/**
 * As `scanInfo`, with each line's key and, as JSON text, its value; for the small files, all of it at once.
 * @throws MalformedInfo
 */
export function readInfo(bytes: Buffer, visit: (section: string, key: string, value: string) => void): void {
  const scan = scanInfo(bytes, (section, line) =>
    visit(section, keyText(bytes, line), valueText(bytes, line)),
  )
  while (scan.next().done !== true);
}

export const keyText = (bytes: Buffer, { keyStart, keyEnd }: InfoLine) =>
  bytes.toString('utf8', keyStart, keyEnd)

export const valueText = (bytes: Buffer, { valueStart, valueEnd }: InfoLine) =>
  bytes.toString('utf8', valueStart, valueEnd)

/** SHA-1 over `{"section":{"key":value,…},…}`; a section without keys is not in it. */
class Checksum {
  readonly #bytes: Buffer
  readonly #hash: Hash = createHash('sha1')
  readonly #batch = Buffer.allocUnsafe(BATCH_BYTES)
  #filled: number
  #section: string | undefined

  constructor(bytes: Buffer) {
    this.#bytes = bytes
    this.#filled = this.#batch.write('{')
  }

  add(section: string, line: InfoLine): void {
    const bytes = this.#bytes
    const { keyStart, keyEnd, valueStart, valueEnd } = line
    if (this.#section !== section) {
      this.#text(`${this.#section === undefined ? '' : '},'}${JSON.stringify(section)}:{`)
      this.#section = section
    } else {
      if (this.#filled === BATCH_BYTES) this.#flush()
      this.#batch[this.#filled++] = COMMA
    }
    const needed = valueEnd - keyStart + 3
    if (this.#filled + needed > BATCH_BYTES) this.#flush()
    if (needed > BATCH_BYTES || isEscaped(bytes, keyStart, keyEnd)) {
      this.#flush()
      this.#hash.update(quoted(bytes.subarray(keyStart, keyEnd))).update(':')
      this.#hash.update(bytes.subarray(valueStart, valueEnd))
      return
    }
    const batch = this.#batch
    let at = this.#filled
    batch[at++] = QUOTE
    at += bytes.copy(batch, at, keyStart, keyEnd)
    batch[at++] = QUOTE
    batch[at++] = COLON
    this.#filled = at + bytes.copy(batch, at, valueStart, valueEnd)
  }

  digest(): string {
    this.#text(this.#section === undefined ? '}' : '}}')
    this.#flush()
    return this.#hash.digest('hex')
  }

  #text(text: string): void {
    if (this.#filled + text.length * 3 > BATCH_BYTES) this.#flush()
    if (text.length * 3 > BATCH_BYTES) this.#hash.update(text)
    else this.#filled += this.#batch.write(text, this.#filled)
  }

  #flush(): void {
    this.#hash.update(this.#batch.subarray(0, this.#filled))
    this.#filled = 0
  }
}

/** Whether JSON may escape the key. */
function isEscaped(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0
    if (byte < 32 || byte === QUOTE || byte === BACKSLASH) return true
  }
  return false
}

/** A key as JSON, byte by byte: names of files need not be UTF-8. */
function quoted(key: Buffer): Buffer {
  const pieces = Array.from(key, (byte) =>
    byte < 32 || byte === QUOTE || byte === BACKSLASH
      ? Buffer.from(JSON.stringify(String.fromCharCode(byte)).slice(1, -1))
      : Buffer.of(byte),
  )
  return Buffer.concat([Buffer.of(QUOTE), ...pieces, Buffer.of(QUOTE)])
}

function next(bytes: Buffer, byte: number, from: number): number {
  const found = bytes.indexOf(byte, from)
  return found < 0 ? bytes.length : found
}

/** The `=` that is followed by JSON. */
function separator(bytes: Buffer, first: number, end: number): number {
  let equals = first
  while (equals < end && !isJson(bytes.toString('utf8', equals + 1, end))) {
    equals = next(bytes, EQUALS, equals + 1)
  }
  return equals
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** @throws MalformedInfo when the value is no JSON */
export function parseValue(key: string, value: string): unknown {
  try {
    return JSON.parse(value)
  } catch (error) {
    throw new MalformedInfo(`${key} has a value that is no JSON`, { cause: error })
  }
}

/** @throws MalformedInfo when the value is no JSON object */
export function parseObject(key: string, value: string): Readonly<Record<string, unknown>> {
  const parsed = parseValue(key, value)
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new MalformedInfo(`${key} has a value that is no object`)
  }
  return parsed as Record<string, unknown>
}

/** A 64-bit number as its digits: a JSON number would lose the last of them. Undefined when `name` is not there. */
export function digits(value: string, name: string): string | undefined {
  return new RegExp(`"${name}":(\\d{1,20})[,}]`).exec(value)?.[1]
}

/** The passphrase in a line of section `[cipher]`, of the files that this one describes. @throws MalformedInfo */
export function passphraseOf(key: string, value: string): Passphrase | undefined {
  if (key !== 'cipher-pass') return undefined
  const text = parseValue(key, value)
  if (typeof text !== 'string' || text === '') throw new MalformedInfo('it has no valid passphrase')
  return new Passphrase(text)
}
