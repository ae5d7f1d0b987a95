/**
 * What is stored of text that others wrote. PostgreSQL's text and jsonb hold neither the character U+0000 nor half of a
 * surrogate pair, which JSON can; both become U+FFFD, in either store, so that no message is one that cannot be saved.
 */

/** Every escape sequence of JSON, so that `\\u0000`, a backslash and five characters, is not taken for one. */
const ESCAPE = /\\(?:u([0-9a-f]{4})|.)/gi
/** `JSON.stringify` escapes surrogates only where they are not a pair. */
const UNSTORABLE = /^(?:0000|d[89a-f][0-9a-f]{2})$/i

export function storedJson(value: unknown): string {
  const json = JSON.stringify(value)
  if (!json.includes('\\u')) return json
  return json.replace(ESCAPE, (sequence, code?: string) =>
    code !== undefined && UNSTORABLE.test(code) ? '\ufffd' : sequence,
  )
}

export function storedText(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\ufffd')
}
