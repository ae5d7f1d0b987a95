/**
 * One role as a child process of `howdah up`: started by the launcher, restarted with backoff when it dies, stopped in
 * order. It has its own process group, so that Ctrl-C reaches only `up`, which stops the roles in order; and it writes
 * its log file itself, so that it survives the death of `up`.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, renameSync, statSync } from 'node:fs'
import path from 'node:path'
import type { Logger } from 'pino'
import { identify } from '../../../config/process-identity.ts'
import { type Backoff, backoffMs } from '../../../messages/backoff.ts'
import { printable } from '../terminal.ts'
import { forgetProcess, recordProcess, stopProcess } from './leftovers.ts'
import { followLog, type LogLine } from './log-file.ts'
import { createRepeatFilter } from './repeat-filter.ts'

export type RoleName = 'coordinator' | 'mount-agent' | 'target-agent'

const RESTART: Backoff = { firstMs: 250, maxMs: 30_000, jitter: 'spread' }
/** After a role has run this long, the restart delay is reset. */
const STEADY_MS = 60_000
/** Longer than a role takes at most to stop in order. */
export const STOP_DEADLINE_MS = 25_000
const MAX_LOG_BYTES = 32 * 1024 * 1024
/** Deaths of a role before `up` is ready, after which the start is given up. */
const MAX_FAILED_STARTS = 3
/** pino's level. */
const WARNING = 40
const REPEAT_MS = 60_000
const EXIT_WRONG_CONFIGURATION = 2

export interface RoleProcessOptions {
  readonly role: RoleName
  readonly launcher: string
  readonly configFile: string
  readonly stateDirectory: string
  readonly env: NodeJS.ProcessEnv
  readonly logger: Logger
  /** Called for deaths, and for warnings in the role's log. */
  readonly onNotice: (text: string) => void
}

export interface RoleProcess {
  readonly role: RoleName
  readonly logFile: string
  /** Why the role cannot be started; undefined while it may still start. */
  startFailure(): string | undefined
  /** `up` is ready: from here on the role is restarted whenever it dies. */
  markReady(): void
  /** SIGTERM, deadline, SIGKILL; `forceStop` cuts the deadline short. */
  stop(forceStop: AbortSignal): Promise<void>
}

export function startRole(options: RoleProcessOptions): RoleProcess {
  const { role, stateDirectory, logger, onNotice } = options
  const logFile = path.join(stateDirectory, 'log', `${role}.log`)
  const runDirectory = path.join(stateDirectory, 'run')
  rotateLog(logFile)
  const stopping = new AbortController()
  let child: ChildProcess | undefined
  let failedStarts: number | undefined = 0
  /** Deaths in a row, each after less than `STEADY_MS`. */
  let deaths = 0
  let startFailure: string | undefined
  let lastLine: LogLine | undefined
  let timer: NodeJS.Timeout | undefined
  /** For warnings that repeat, as while the broker is unavailable; the log has all of them. */
  const isDue = createRepeatFilter(REPEAT_MS)

  const log = followLog(logFile, (line) => {
    lastLine = line
    if (line.level >= WARNING && isDue(line.text)) onNotice(`${role}: ${printable(line.text)}`)
  })

  const start = () => {
    const startedAt = Date.now()
    const output = openSync(logFile, 'a', 0o600)
    child = spawn(options.launcher, [role, '--config', options.configFile], {
      cwd: stateDirectory,
      env: options.env,
      detached: true,
      stdio: ['ignore', output, output],
    })
    closeSync(output)
    const identity = child.pid === undefined ? undefined : identify(child.pid)
    if (identity !== undefined) recordProcess(runDirectory, role, identity)
    logger.info({ process: child.pid }, `${role} started`)
    child.once('error', (error) => onDeath(startedAt, error.message, undefined))
    child.once('exit', (code, signal) =>
      onDeath(startedAt, signal === null ? `exit status ${code}` : signal, code ?? undefined),
    )
  }

  const onDeath = (startedAt: number, how: string, code: number | undefined) => {
    child = undefined
    forgetProcess(runDirectory, role)
    if (stopping.signal.aborted) return
    log.read()
    if (failedStarts !== undefined) {
      failedStarts += 1
      if (code === EXIT_WRONG_CONFIGURATION || failedStarts >= MAX_FAILED_STARTS) {
        startFailure = `${how}${lastLine === undefined ? '' : `: ${lastLine.text}`}`
        return
      }
    }
    deaths = Date.now() - startedAt > STEADY_MS ? 1 : deaths + 1
    const delay = backoffMs(deaths, RESTART)
    const text = `${role} died (${how}); started again in ${(delay / 1000).toFixed(1)} s`
    logger.warn(text)
    onNotice(text)
    timer = setTimeout(start, delay)
  }

  start()
  return {
    role,
    logFile,
    startFailure: () => startFailure,
    markReady: () => {
      failedStarts = undefined
    },
    stop: async (forceStop) => {
      stopping.abort()
      clearTimeout(timer)
      const running = child
      const identity = running?.pid === undefined ? undefined : identify(running.pid)
      if (running !== undefined && identity !== undefined) {
        const exited = once(running, 'exit')
        await stopProcess(identity, STOP_DEADLINE_MS, forceStop)
        await exited
      }
      log.close()
      logger.info(`${role} stopped`)
    },
  }
}

function rotateLog(file: string): void {
  const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  if (size > MAX_LOG_BYTES) renameSync(file, `${file}.1`)
}
