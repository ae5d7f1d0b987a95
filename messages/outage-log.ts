/**
 * What the log says of work that is tried again until it succeeds, so that an outage of a week is a few lines: its first
 * failure, a failure with another code, and that it works again. The failures in between are at `debug`.
 */
import type { Logger } from 'pino'
import { type ErrorCode, HowdahError } from './errors.ts'

export interface OutageLog {
  /** It works no more, as the caller has logged; no attempt has failed yet. */
  began(): void
  /** One more attempt has failed. `about` stands beside the reason. */
  failed(error: unknown, about?: object): void
  /** It works. Says so if it had failed, or an outage had begun. */
  works(about?: object): void
}

export interface OutageLogOptions {
  readonly logger: Logger
  /** `cannot connect to RabbitMQ` */
  readonly failing: string
  /** `connected to RabbitMQ again` */
  readonly again: string
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

export function createOutageLog({ logger, failing, again, now = Date.now }: OutageLogOptions): OutageLog {
  const told = new Set<ErrorCode | undefined>()
  let failures = 0
  let since: number | undefined
  const began = (): void => {
    since ??= now()
  }
  return {
    began,
    failed(error, about) {
      began()
      failures += 1
      const code = error instanceof HowdahError ? error.code : undefined
      const level = told.has(code) ? 'debug' : 'warn'
      told.add(code)
      logger[level]({ ...reasonOf(error), ...about, failures }, failing)
    },
    works(about) {
      if (since === undefined) return
      logger.info({ ...about, failures, seconds: Math.round((now() - since) / 1000) }, again)
      told.clear()
      failures = 0
      since = undefined
    },
  }
}

/** The stack of an error of ours says no more than its message. */
function reasonOf(error: unknown): object {
  return error instanceof HowdahError ? { code: error.code, reason: error.message } : { err: error }
}
