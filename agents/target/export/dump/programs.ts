/**
 * Programs of an export: pg_dump, pg_restore, psql and small tools, as the session's operating system user. Whatever an
 * export does to files it does with that user's rights, so that a path can lead it nowhere where that user may not go.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { runAs } from '../../postgres/process/user-process.ts'
import type { PublishedSession } from '../../session/published-session.ts'

export interface Programs {
  /** Begins a program; nothing is awaited. Paths without a slash are PostgreSQL's or the system's. */
  start(program: string, args: readonly string[], options?: StartOptions): RunningProgram
  /** Runs a program to its end and gives its stdout. @throws HowdahError `export_failed` */
  run(program: string, args: readonly string[], options?: RunOptions): Promise<string>
  /** Kills whatever an export of this session left running, also one of an earlier agent process. */
  killStale(): Promise<void>
}

export interface StartOptions {
  readonly environment?: Readonly<Record<string, string>>
  /** Each line of stderr. */
  readonly onLine?: ((line: string) => void) | undefined
}

export interface RunOptions extends StartOptions {
  readonly input?: string
}

export interface RunningProgram {
  readonly stdin: Writable
  readonly stdout: Readable
  /** Resolves when it ended well. @throws HowdahError `export_failed` with its last words */
  readonly done: Promise<void>
  kill(): void
}

export interface ProgramsOptions {
  readonly session: Pick<PublishedSession, 'session' | 'binaries' | 'user'>
  /** Ends every program. */
  readonly signal: AbortSignal
}

/** In the environment of every program of an export: by this they are found again. */
const MARK = 'HOWDAH_EXPORT'
/** What pg_dump may take to call its queries back before it is killed. Milliseconds. */
const GRACE_MS = 2_000
const KILL_DEADLINE_MS = 10_000
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024

export function createPrograms({ session, signal }: ProgramsOptions): Programs {
  const environment = {
    PATH: `${session.binaries}:/usr/local/bin:/usr/bin:/bin`,
    LANG: 'C.UTF-8',
    LC_MESSAGES: 'C',
    HOME: '/nonexistent',
    [MARK]: session.session,
  }

  function start(program: string, args: readonly string[], options: StartOptions = {}): RunningProgram {
    signal.throwIfAborted()
    // The shell is there for the umask, which only the whole agent process could set.
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
    const words = errorOutput()
    eachLine(child.stderr, (line) => {
      words.hear(line)
      options.onLine?.(line)
    })
    // A reader that ended early is told by its exit status.
    child.stdin.on('error', () => undefined)
    const done = new Promise<void>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code, killed) => {
        signal.removeEventListener('abort', kill)
        if (code === 0) resolve()
        else if (signal.aborted) reject(signal.reason)
        else {
          const ending = killed === null ? `ended with status ${code}` : `was killed by ${killed}`
          reject(new HowdahError('export_failed', words.text() || `${program} ${ending}`))
        }
      })
    })
    // Whoever started it may be busy with another part that failed.
    done.catch(() => undefined)
    // Node drops what nobody has begun to read when the program ends; a reader may still be on its way.
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
      // Of a program that failed there may be no end to read.
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

/** What a program said of its failure: PostgreSQL's tools tell of their work too when they are verbose. */
function errorOutput(): { hear(line: string): void; text(): string } {
  const LINES = 12
  const lines: string[] = []
  let told = false
  return {
    hear(line) {
      const tool = /^pg_\w+: (.*)$/.exec(line)
      // Source: logging.c; error, detail and hint head what is wrong, lines of the server's message follow.
      if (tool) told = /^(error|fatal|detail|hint|warning|\[)/.test(tool[1] ?? '')
      if ((told || !tool) && lines.length < LINES) lines.push(line)
    },
    text: () => lines.join('\n'),
  }
}

function eachLine(stream: Readable, hear: (line: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = (lines.pop() ?? '').slice(-MAX_LINE)
    for (const line of lines) hear(line)
  })
  stream.on('end', () => {
    if (rest !== '') hear(rest)
  })
}

const MAX_LINE = 8192

function markedProcesses(session: string): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((pid) => pid !== process.pid && isMarked(pid, session))
}

/** proc(5): the environment is there for processes of our user, and all of them for root; a zombie's is empty. */
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
