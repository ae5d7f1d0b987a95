/** A question to whoever sits at the terminal. */
import { once } from 'node:events'
import { createInterface } from 'node:readline/promises'
import type { Readable, Writable } from 'node:stream'

export interface QuestionOptions {
  readonly input: Readable
  readonly output: Writable
  readonly signal: AbortSignal
}

/**
 * Anything but "y" or "yes" is a no, and so is the end of the input.
 * @throws the reason of the signal when it is aborted
 */
export async function askYesOrNo(text: string, { input, output, signal }: QuestionOptions): Promise<boolean> {
  signal.throwIfAborted()
  // Not in raw mode: Ctrl-C is to be a signal.
  const lines = createInterface({ input, output, terminal: false })
  const ended = once(lines, 'close').then(() => '')
  try {
    const answer = await Promise.race([lines.question(`${text} [y/N] `, { signal }), ended])
    return /^\s*y(es)?\s*$/i.test(answer)
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    lines.close()
  }
}
