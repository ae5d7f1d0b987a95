/**
 * Runs the programs of an export: pg_dump, pg_restore, psql and small tools, as the session's operating system user. All
 * file access of an export is with that user's rights, so that no path gives access to anything that user may not use.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { runAs } from '../../postgres/process/user-process.ts'
import type { PublishedSession } from '../../session/published-session.ts'
import { programPath } from './dump-program.ts'

export interface Programs {
  /** Starts a program without waiting. A name without a slash is one of PostgreSQL's or the system's executables. */
  start(program: string, args: readonly string[], options?: StartOptions): RunningProgram
  /** Runs a program to its end. @returns its stdout. @throws HowdahError `export_failed` */
  run(program: string, args: readonly string[], options?: RunOptions): Promise<string>
  /** Kills programs that an export of this session left running, also those of an earlier agent process. */
  killStale(): Promise<void>
}

export interface StartOptions {
  readonly environment?: Readonly<Record<string, string>>
  /** Called with each line of stderr. */
  readonly onLine?: ((line: string) => void) | undefined
}

export interface RunOptions extends StartOptions {
  readonly input?: string
}

export interface RunningProgram {
  readonly stdin: Writable
  readonly stdout: Readable
  /** Resolves when it has ended with status 0. @throws HowdahError `export_failed` with the errors of its stderr */
  readonly done: Promise<void>
  kill(): void
}

export interface ProgramsOptions {
  readonly session: Pick<PublishedSession, 'session' | 'binaries' | 'user'>
  /** Ends every program. */
  readonly signal: AbortSignal
}

/** A variable in the environment of every program of an export, by which they are found again. */
const MARK = 'HOWDAH_EXPORT'
/** How long pg_dump may take to cancel its queries before it is killed. Milliseconds. */
const GRACE_MS = 2_000
const KILL_DEADLINE_MS = 10_000
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024

export function createPrograms({ session, signal }: ProgramsOptions): Programs {
  const environment = {
    PATH: programPath(session.binaries),
    LANG: 'C.UTF-8',
    LC_MESSAGES: 'C',
    HOME: '/nonexistent',
    [MARK]: session.session,
  }

  function start(program: string, args: readonly string[], options: StartOptions = {}): RunningProgram {
    signal.throwIfAborted()
    // A shell sets the umask, which Node could only set for the whole agent process.
    const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn(
      '/bin/sh',
      ['-c', 'umask 077; exec "$@"', 'sh', program, ...args],
      {
        ...runAs(session.user),
        cwd: '/',
        env: { ...environment, ...options.environment },
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    )
    const kill = (): void => {
      child.kill('SIGTERM')
      setTimeout(() => child.kill('SIGKILL'), GRACE_MS).unref()
    }
    signal.addEventListener('abort', kill, { once: true })
    const errors = errorOutput()
    eachLine(child.stderr, (line) => {
      errors.add(line)
      options.onLine?.(line)
    })
    // If the program ends before it has read its input, its exit status reports that.
    child.stdin.on('error', () => undefined)
    const done = new Promise<void>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code, killed) => {
        signal.removeEventListener('abort', kill)
        if (code === 0) resolve()
        else if (signal.aborted) reject(signal.reason)
        else {
          const ending = killed === null ? `ended with status ${code}` : `was killed by ${killed}`
          reject(new HowdahError('export_failed', errors.text() || `${program} ${ending}`))
        }
      })
    })
    // The caller may be handling another error, and never await this one.
    done.catch(() => undefined)
    // When a program ends Node discards output that has no reader yet; the PassThrough keeps it for one that comes later.
    return { stdin: child.stdin, stdout: child.stdout.pipe(new PassThrough()), done, kill }
  }

  return {
    start,
    async run(program, args, options = {}) {
      const running = start(program, args, options)
      const chunks: Buffer[] = []
      let bytes = 0
      running.stdout.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > MAX_OUTPUT_BYTES) running.kill()
        else chunks.push(chunk)
      })
      const read = finished(running.stdout)
      // The stdout of a failed program may end prematurely.
      read.catch(() => undefined)
      running.stdin.end(options.input)
      await running.done
      await read
      return Buffer.concat(chunks).toString('utf8')
    },
    async killStale() {
      const deadline = Date.now() + KILL_DEADLINE_MS
      for (;;) {
        const left = markedProcesses(session.session)
        if (left.length === 0) return
        if (Date.now() > deadline)
          throw new HowdahError('timeout', `processes ${left.join(', ')} of an export do not end when killed`)
        for (const pid of left) killQuietly(pid)
        await delay(20)
      }
    },
  }
}

/** Collects the errors in a program's stderr, without the progress messages of verbose PostgreSQL tools. */
function errorOutput(): { add(line: string): void; text(): string } {
  const LINES = 12
  const lines: string[] = []
  let isError = false
  return {
    add(line) {
      const tool = /^pg_\w+: (.*)$/.exec(line)
      // Source: logging.c; a line that begins with error, detail or hint is followed by lines of the server's message.
      if (tool) isError = /^(error|fatal|detail|hint|warning|\[)/.test(tool[1] ?? '')
      if ((isError || !tool) && lines.length < LINES) lines.push(line)
    },
    text: () => lines.join('\n'),
  }
}

function eachLine(stream: Readable, onLine: (line: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = (lines.pop() ?? '').slice(-MAX_LINE)
    for (const line of lines) onLine(line)
  })
  stream.on('end', () => {
    if (rest !== '') onLine(rest)
  })
}

const MAX_LINE = 8192

function markedProcesses(session: string): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((pid) => pid !== process.pid && isMarked(pid, session))
}

/** proc(5): the environment is readable for processes of the same user, and for root; a zombie's is empty. */
function isMarked(pid: number, session: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`${MARK}=${session}`)
  } catch {
    return false
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
