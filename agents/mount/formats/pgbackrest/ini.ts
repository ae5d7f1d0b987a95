/**
 * pgBackRest's own file form (doc/xml/… "format 5", src/info/info.c, src/common/ini.c): INI sections of `key=JSON`
 * lines, and in section `[backrest]` at the end a SHA-1 over all that stands before.
 *
 * Large manifests have a line per file of the cluster, so this goes over the bytes once, without a copy of the whole.
 */
import { createHash } from 'node:crypto'

/** What is wrong with a file of this form. Callers know the file's name, and whether a copy is left to try. */
export class MalformedInfo extends Error {
  override readonly name = 'MalformedInfo'
}

/** What JSON writes as it is. */
const UNESCAPED = /^[\w/.-]*$/

const LINE_FEED = 10
const BATCH = 64 * 1024

/**
 * Gives every `key=value` line to `visit`, in order, the value as JSON text, and checks the checksum at the end.
 * @throws MalformedInfo
 */
export function readInfo(bytes: Buffer, visit: (section: string, key: string, value: string) => void): void {
  const hash = createHash('sha1')
  let hashed = '{'
  let section: string | undefined
  // The section that was last written into the checksum; one without keys is not.
  let hashedSection: string | undefined
  let checksum: string | undefined
  const hashKey = (key: string, value: string) => {
    if (hashedSection !== section) {
      hashed += `${hashedSection === undefined ? '' : '},'}${JSON.stringify(section)}:{`
      hashedSection = section
    } else hashed += ','
    hashed += UNESCAPED.test(key) ? `"${key}":${value}` : `${JSON.stringify(key)}:${value}`
    if (hashed.length > BATCH) {
      hash.update(hashed)
      hashed = ''
    }
  }

  for (const line of lines(bytes)) {
    if (line === '') continue
    if (line.startsWith('[') && line.endsWith(']')) {
      section = line.slice(1, -1)
      continue
    }
    if (section === undefined) throw new MalformedInfo('it does not start with a section')
    const equals = separator(line)
    if (equals < 0) throw new MalformedInfo(`section [${section}] has a line that is no key=value`)
    const key = line.slice(0, equals)
    const value = line.slice(equals + 1)
    if (section === 'backrest' && key === 'backrest-checksum') {
      checksum = value
      continue
    }
    hashKey(key, value)
    visit(section, key, value)
  }
  if (checksum === undefined) throw new MalformedInfo('it has no checksum, so it is not complete')
  hash.update(hashedSection === undefined ? `${hashed}}` : `${hashed}}}`)
  if (checksum !== `"${hash.digest('hex')}"`)
    throw new MalformedInfo('its contents do not match its checksum')
}

function* lines(bytes: Buffer): Generator<string> {
  let start = 0
  while (start < bytes.length) {
    const found = bytes.indexOf(LINE_FEED, start)
    const end = found < 0 ? bytes.length : found
    yield bytes.toString('utf8', start, end)
    start = end + 1
  }
}

/** The `=` that has JSON after it: names of files and databases may hold one themselves. */
function separator(line: string): number {
  let equals = line.indexOf('=')
  if (equals < 0 || line.indexOf('=', equals + 1) < 0) return equals
  while (equals >= 0) {
    if (isJson(line.slice(equals + 1))) return equals
    equals = line.indexOf('=', equals + 1)
  }
  return -1
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
