/**
 * Runs a shell script on a host, as the user who logged in or as root.
 *
 * The script travels by standard input, and what it reads follows it there: neither the user's login shell nor a list of
 * processes ever sees it. Everything before a mark on standard error is of sudo or su; only then is the script sent, so
 * that a password can never become a part of it, nor a part of it a password.
 */
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ClientChannel } from 'ssh2'
import { HowdahError } from '../../../messages/errors.ts'
import type { SshConnection } from './connection.ts'

export interface Completed {
  /** Exit status; undefined: a signal ended it. */
  readonly status: number | undefined
  readonly stdout: string
  readonly stderr: string
}

export interface ScriptOptions {
  /** What the script reads on standard input. */
  readonly input?: Readable | string
  readonly signal: AbortSignal
  /** Of the whole run. */
  readonly deadlineMs: number
}

/** How a script gets its rights. */
export interface Elevation {
  /** The program before `sh`, with its arguments, for the login shell; empty: none. */
  prefix(prompt: string): string
  /** What is asked, and whether that is a question for a password. */
  isQuestion(said: string, prompt: string): boolean
  /** @returns the password; undefined: give up */
  answer(questions: number): Promise<string | undefined>
  /** The error of a program that ended before the script began. */
  refusal(said: string, status: number | undefined): HowdahError
}

const MAX_OUTPUT_BYTES = 1024 ** 2
/** Found by a login that is not root's, too. */
const PREAMBLE =
  'PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH; LC_ALL=C; export LC_ALL; umask 022; cd /\n'

/** @throws HowdahError `operation_failed` (connection lost) | `timeout` | as the elevation refuses */
export async function runScript(
  connection: SshConnection,
  script: string,
  { input = '', signal, deadlineMs }: ScriptOptions,
  elevation?: Elevation,
): Promise<Completed> {
  const late = AbortSignal.timeout(deadlineMs)
  const ended = AbortSignal.any([signal, connection.lost, late])
  const [mark, prompt] = [
    `howdah-${randomBytes(8).toString('hex')}`,
    `howdah-password-${randomBytes(8).toString('hex')}:`,
  ]
  // In braces: of a script that was cut off nothing is run.
  const text = Buffer.from(`{\n${PREAMBLE}${script}\n}\n`)
  // dd reads byte by byte, and so nothing of what follows the script.
  const inner = `echo ${mark} >&2; eval "$(dd bs=1 count=${text.length} 2>/dev/null)"`
  const channel = await connection.execute(`exec ${elevation?.prefix(prompt) ?? ''}sh -c '${inner}'`)
  const abort = (): void => void channel.destroy()
  ended.addEventListener('abort', abort, { once: true })
  try {
    const output = collect(channel, mark, prompt, elevation)
    await output.begun
    // A script may end without reading everything.
    const sending = pipeline(Readable.from(chain(text, input)), channel).catch(() => undefined)
    const completed = await output.completed
    await Promise.race([sending, output.closed])
    return completed
  } catch (error) {
    channel.destroy()
    signal.throwIfAborted()
    if (connection.lost.aborted) throw connection.lost.reason
    if (late.aborted)
      throw new HowdahError('timeout', `${connection.name} was not done after ${deadlineMs / 1000} s`)
    throw error
  } finally {
    ended.removeEventListener('abort', abort)
  }
}

async function* chain(text: Buffer, input: Readable | string): AsyncGenerator<Buffer | string> {
  yield text
  if (typeof input === 'string') yield input
  else for await (const chunk of input) yield chunk as Buffer
}

interface Output {
  /** Resolves when the script may be sent. */
  readonly begun: Promise<void>
  readonly completed: Promise<Completed>
  readonly closed: Promise<void>
}

function collect(
  channel: ClientChannel,
  mark: string,
  prompt: string,
  elevation: Elevation | undefined,
): Output {
  const begun = Promise.withResolvers<void>()
  const completed = Promise.withResolvers<Completed>()
  const closed = Promise.withResolvers<void>()
  for (const promise of [begun.promise, completed.promise]) promise.catch(() => undefined)
  let [stdout, stderr] = ['', '']
  let hasBegun = false
  let questions = 0
  let status: number | undefined
  let hasExited = false
  let isEnded = false

  async function answer(): Promise<void> {
    questions += 1
    const given = await elevation?.answer(questions)
    if (given === undefined) channel.close()
    else if (!isEnded) channel.write(`${given}\n`)
  }

  for (const stream of [channel, channel.stderr]) stream.setEncoding('utf8')
  channel.on('data', (chunk: string) => {
    if (stdout.length < MAX_OUTPUT_BYTES) stdout += chunk
  })
  channel.stderr.on('data', (chunk: string) => {
    if (stderr.length >= MAX_OUTPUT_BYTES) return
    stderr += chunk
    if (hasBegun) return
    const at = stderr.indexOf(`${mark}\n`)
    if (at >= 0) {
      hasBegun = true
      stderr = stderr.slice(at + mark.length + 1)
      return begun.resolve()
    }
    if (elevation?.isQuestion(stderr, prompt)) {
      stderr = ''
      answer().catch((error: unknown) => {
        begun.reject(error)
        channel.close()
      })
    }
  })
  const exited = (code: number | null): void => {
    hasExited = true
    status = code ?? undefined
  }
  channel.on('exit', exited)
  channel.on('error', () => undefined)
  channel.on('close', (code?: number | null) => {
    // A command that ends at once has exited before anybody listens.
    if (code !== undefined) exited(code)
    isEnded = true
    closed.resolve()
    const said = stderr.replaceAll(prompt, '').trim()
    if (hasBegun && hasExited) return completed.resolve({ status, stdout, stderr: stderr.trim() })
    // What was cut off says nothing of sudo.
    if (!hasExited && questions === 0) elevation = undefined
    const error = hasBegun
      ? new HowdahError('operation_failed', 'the connection was lost')
      : (elevation?.refusal(said, status) ??
        new HowdahError(
          'operation_failed',
          `the login shell runs no commands${said === '' ? '' : `: ${said}`}`,
        ))
    begun.reject(error)
    completed.reject(error)
  })
  return { begun: begun.promise, completed: completed.promise, closed: closed.promise }
}
