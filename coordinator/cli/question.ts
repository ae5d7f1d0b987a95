/** A question to whoever sits at the terminal. */
import { once } from 'node:events'
import { createInterface } from 'node:readline/promises'
import type { Readable, Writable } from 'node:stream'
import type { ReadStream } from 'node:tty'

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

/**
 * Asks for a password: what is typed is not shown. The end of the input (Ctrl-D) is an empty answer.
 * @param interrupt called for Ctrl-C, which is no signal meanwhile
 * @throws the reason of the signal when it is aborted
 */
export async function askSecret(
  text: string,
  { input, output, signal }: QuestionOptions & { readonly input: ReadStream },
  interrupt: () => void,
): Promise<string> {
  signal.throwIfAborted()
  // First, so that nothing that is typed at once is shown.
  input.setRawMode(true)
  output.write(text)
  input.setEncoding('utf8')
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const onAbort = () => reject(signal.reason)
  let typed = ''
  const onData = (chunk: string): void => {
    for (const character of chunk) {
      if (character === '\u0003') interrupt()
      else if (character === '\r' || character === '\n' || character === '\u0004') resolve(typed)
      else if (character === '\u007f' || character === '\b') typed = [...typed].slice(0, -1).join('')
      else if (character === '\u0015') typed = ''
      else typed += character
    }
  }
  signal.addEventListener('abort', onAbort, { once: true })
  input.on('data', onData)
  input.resume()
  try {
    return await promise
  } finally {
    signal.removeEventListener('abort', onAbort)
    input.off('data', onData)
    input.pause()
    input.setRawMode(false)
    output.write('\n')
  }
}
