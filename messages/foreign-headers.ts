/**
 * Headers that somebody else set on a message: how large they are, and how they are kept as text. They are never put on a
 * message of ours as they are, because RabbitMQ acts on some of them (`CC` and `BCC` route to further queues). Pure.
 */

/** Bytes of a message's headers as JSON. */
export const MAX_HEADERS_BYTES = 16 * 1024

/** The headers as JSON in UTF-8, of any size. Never throws for what a message can contain. */
export function headersJson(headers: unknown): Buffer {
  return Buffer.from(JSON.stringify(headers ?? {}))
}

/** The beginning of the headers as JSON. @param maxBytes of UTF-8 */
export function headersText(headers: unknown, maxBytes: number): string {
  const json = headersJson(headers)
  if (json.length <= maxBytes) return json.toString()
  // A character that was cut in two becomes U+FFFD, and is left out.
  return json.subarray(0, maxBytes).toString().replace(/�$/, '')
}
