/**
 * The table of error codes. Every error that leaves a process (reply, event, dead letter, exit status) carries one of
 * these codes. Programs decide by the code; people read the message.
 */

/** code → its meaning, and whether the same request can succeed later unchanged. */
export const ERROR_CODES = {
  invalid_message: { retryable: false, means: 'a message does not match the schema of its type' },
  unknown_message_type: { retryable: false, means: 'no such message type' },
  message_too_large: { retryable: false, means: 'a message is larger than the contract allows' },
  unroutable: { retryable: true, means: 'no queue took the message: its consumer was never started here' },
  broker_unavailable: { retryable: true, means: 'RabbitMQ cannot be reached' },
  broker_blocked: {
    retryable: true,
    means: 'RabbitMQ takes no messages, because an alarm of its disk or memory is on',
  },
  timeout: { retryable: true, means: 'there was no answer before the deadline' },
  unknown_repository: { retryable: false, means: 'no mount agent serves a repository of that name' },
  unknown_instance: { retryable: false, means: 'the repository has no instance of that name' },
  unknown_backup: { retryable: false, means: 'the instance has no backup with that label' },
  unknown_target: { retryable: false, means: 'no target agent of that name ever registered' },
  unknown_agent: { retryable: false, means: 'no agent of that kind and name ever registered' },
  agent_in_use: { retryable: false, means: 'the agent is connected, or sessions need it' },
  unknown_dead_letter: { retryable: false, means: 'no dead letter has that id' },
  unknown_session: { retryable: false, means: 'no session has that id' },
  agent_incompatible: {
    retryable: true,
    means:
      'the agent runs a release that does not work together with the coordinator: one of them must be upgraded',
  },
  agent_busy: { retryable: true, means: 'the agent is asked more questions than it answers' },
  agent_offline: { retryable: true, means: 'the agent is known but not connected' },
  session_state: { retryable: false, means: 'the session is in a state in which that cannot be done' },
  repository_unavailable: { retryable: true, means: 'the repository or its mount server cannot be reached' },
  backup_unsupported: { retryable: false, means: 'the backup uses something that Howdah cannot read' },
  backup_damaged: { retryable: false, means: 'the repository contradicts itself or a file of it is damaged' },
  backup_gone: {
    retryable: false,
    means: 'the backup expired or was deleted in its repository while a session used it',
  },
  wal_missing: { retryable: false, means: 'the archive lacks a WAL segment that recovery needs' },
  target_unreachable: {
    retryable: false,
    means: 'the recovery target cannot be reached with this backup and archive',
  },
  preflight_failed: { retryable: false, means: 'several checks on the target failed; each is listed' },
  user_missing: { retryable: false, means: 'the operating system user does not exist on the target' },
  user_unusable: {
    retryable: false,
    means: 'the operating system user exists on the target but cannot run PostgreSQL there',
  },
  postgres_missing: {
    retryable: false,
    means: 'PostgreSQL of the major version is not installed on the target',
  },
  port_taken: { retryable: false, means: 'the port is in use on the target' },
  path_unsafe: { retryable: false, means: 'a mount or cache directory is not safe to use, or not writable' },
  space_low: { retryable: false, means: 'the file system of the write cache has too little free space' },
  file_system_unusable: {
    retryable: false,
    means: 'the file system of a mount or cache directory on the target cannot be used',
  },
  kernel_limited: { retryable: false, means: 'the kernel of the target lacks something that Howdah uses' },
  shared_memory_low: { retryable: false, means: '/dev/shm on the target has too little room for PostgreSQL' },
  fuse_unusable: { retryable: false, means: 'FUSE cannot be used on the target' },
  mount_failed: { retryable: true, means: 'the mount process did not start, or died' },
  cache_unusable: {
    retryable: false,
    means: 'the write cache on the target is damaged, or of another version of Howdah',
  },
  postgres_failed: {
    retryable: false,
    means: 'PostgreSQL did not start or did not reach the recovery target',
  },
  postgres_killed: {
    retryable: true,
    means: 'PostgreSQL was killed while it started',
  },
  library_missing: {
    retryable: false,
    means: 'the target lacks a library without which the data of the backup cannot be read',
  },
  changes_unexported: {
    retryable: false,
    means: 'the published instance holds changes that were not exported',
  },
  limit_reached: { retryable: false, means: 'the target takes no more sessions, or no more changes' },
  export_failed: { retryable: false, means: 'a database or table could not be exported' },
  cancelled: { retryable: false, means: 'it was cancelled on request' },
  expired: { retryable: false, means: 'the lifetime of the session is over' },
  locale_missing: { retryable: false, means: 'the target lacks a locale that a database of the backup has' },
  isolation_missing: {
    retryable: false,
    means: 'the target cannot keep instances apart from the rest of the machine',
  },
  not_allowed: {
    retryable: false,
    means: 'the configuration of the target agent does not allow what the command asks for',
  },
  unauthorized: {
    retryable: false,
    means: 'a certificate, a ticket or a login was refused, or an agent reported for another one',
  },
  configuration: { retryable: false, means: 'a configuration key or environment variable is wrong' },
  usage: { retryable: false, means: 'the command line is wrong; nothing was done' },
  interrupted: { retryable: true, means: 'a signal ended the command line before it was done' },
  certificate_revoked: {
    retryable: false,
    means: 'the agent was revoked; an operator has to enrol it again',
  },
  operation_failed: {
    retryable: true,
    means: 'an operation of the system, the network or PostgreSQL failed in a way that may pass',
  },
  internal: {
    retryable: false,
    means: 'a defect in Howdah, which a retry would meet again; the log has the stack',
  },
} as const satisfies Record<string, { retryable: boolean; means: string }>

export type ErrorCode = keyof typeof ERROR_CODES

/** An error in a message. `field` names the part of the request that caused it. */
export interface ErrorBody {
  code: ErrorCode
  message: string
  field?: string | undefined
  /** Whether the same request can succeed later unchanged. Missing: as `ERROR_CODES` says of the code. */
  retryable?: boolean | undefined
  /** Each finding, where there are several (preflight). */
  details?: ErrorBody[] | undefined
}

/**
 * Whether the same request can succeed later unchanged. What the error itself says counts first, so that a code of a newer
 * release, which is not in the table, is treated as its sender meant.
 */
export const isRetryable = ({ code, retryable }: Pick<ErrorBody, 'code' | 'retryable'>): boolean =>
  retryable ?? (Object.hasOwn(ERROR_CODES, code) && ERROR_CODES[code].retryable)

/** The error as it stands in a message: with `retryable` throughout, so that no receiver needs the table. */
export function withRetryable(error: ErrorBody): ErrorBody {
  const { details } = error
  return {
    ...error,
    retryable: isRetryable(error),
    ...(details && { details: details.map(withRetryable) }),
  }
}

/** The document that a program prints with `--json` when it fails. `more`: what else there is to say. */
export function failureDocument(error: ErrorBody, more: object = {}): object {
  return { ...more, error: withRetryable(error) }
}

/** An error with a code to decide by and a message that says what to do. */
export class HowdahError extends Error {
  readonly code: ErrorCode
  readonly field: string | undefined
  readonly retryable: boolean
  readonly details: ErrorBody[] | undefined

  /** `retryable`: when it differs from what is usual for the code. */
  constructor(
    code: ErrorCode,
    message: string,
    options: {
      cause?: unknown
      field?: string | undefined
      retryable?: boolean | undefined
      details?: ErrorBody[] | undefined
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'HowdahError'
    this.code = code
    this.field = options.field
    this.retryable = isRetryable({ code, retryable: options.retryable })
    this.details = options.details
  }

  /** The error of a message, to be thrown here. */
  static of({ code, message, ...rest }: ErrorBody): HowdahError {
    return new HowdahError(code, message, rest)
  }

  toBody(): ErrorBody {
    return withRetryable({
      code: this.code,
      message: this.message,
      retryable: this.retryable,
      ...(this.field !== undefined && { field: this.field }),
      ...(this.details !== undefined && { details: this.details }),
    })
  }
}

/** Converts anything thrown: a `HowdahError` keeps its code, other errors get one by whether they are transient. */
export function errorBody(error: unknown): ErrorBody {
  if (error instanceof HowdahError) return error.toBody()
  return withRetryable({
    code: isTransient(error) ? 'operation_failed' : 'internal',
    message: error instanceof Error ? error.message : String(error),
  })
}

/** Classes of errors that are defects of the program: the same input causes the same error. */
const DEFECT_CLASSES = [TypeError, RangeError, ReferenceError, SyntaxError, EvalError, URIError]

/**
 * SQLSTATEs of transient failures: the classes connection exception, transaction rollback, insufficient resources and
 * operator intervention, system errors, and objects in use (appendix A of PostgreSQL's documentation).
 */
const TRANSIENT_SQLSTATE = /^(?:08|40|53|57)[0-9A-Z]{3}$|^(?:58000|58030|55006|55P03)$/
const SQLSTATE = /^[0-9A-Z]{5}$/

/** Whether the same operation can succeed later. Unknown errors are assumed to be transient. */
function isTransient(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, severity } = error as { code?: unknown; severity?: unknown }
  if (typeof severity === 'string' && typeof code === 'string' && SQLSTATE.test(code)) {
    return TRANSIENT_SQLSTATE.test(code)
  }
  return !DEFECT_CLASSES.some((kind) => error instanceof kind)
}
