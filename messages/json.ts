/** Reading JSON that may be damaged or hostile, without an exception. */

/** What the text holds; undefined when it is not JSON, or when bytes are not UTF-8. `null` is a value like any other. */
export function parseJson(content: string | Uint8Array): { readonly value: unknown } | undefined {
  try {
    const text =
      typeof content === 'string' ? content : new TextDecoder('utf-8', { fatal: true }).decode(content)
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}
