/**
 * The loop on the device: reads a request, answers it synchronously when local state can, otherwise reads the next one
 * while it waits. It blocks its thread while there are no requests.
 *
 * Nothing else runs in this thread between two requests, except when messages are waiting or an operation returned a
 * promise: then the loop yields to the event loop once, so that promises can settle.
 */
import { readFileSync, readSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { setImmediate } from 'node:timers/promises'
import type { Logger } from 'pino'
import { HowdahError } from '../../../../../messages/errors.ts'
import { type FileSystem, FileSystemError } from '../../file-system.ts'
import type { DirectReads } from '../../reads/direct-reads.ts'
import type { Mailbox } from './mailbox.ts'
import { negotiate } from './negotiation.ts'
import { NO_REPLY } from './operation.ts'
import { createOperations, type OperationOptions } from './operations.ts'
import { IN, OP } from './protocol.ts'
import { Reply } from './reply.ts'
import { Request } from './request.ts'

export interface ServeOptions extends OperationOptions {
  readonly logger: Logger
  /** INIT was answered: from now on the mount answers, and `wakeServer` may be called. */
  readonly onReady?: () => void
  /** The file system became near full, or no longer is: files are to be switched, see write-through.ts. */
  readonly onNearFull?: (nearFull: boolean) => void
  /** Reads whose reply another thread sends. */
  readonly directReads?: Pick<DirectReads, 'requesterOf'>
  /** Answers the INTERRUPT with this unique number by EAGAIN after a delay, upon which the kernel sends it again. */
  readonly retryInterrupt?: (low: number, high: number) => void
}

/** The device, or its substitute in a test. */
export interface Device {
  /** Blocks until there is a message; returns its length. @throws as readSync */
  read(buffer: Buffer): number
  /** @throws as writeSync */
  write(buffer: Buffer, length: number): void
}

/** A waiting request that is ended when its requester is killed. */
interface Waiting {
  /** The requesting thread. */
  readonly pid: number
  answered: boolean
}

const { errno } = constants
const MAX_SPARE = 16
const GONE: readonly unknown[] = ['ENODEV', 'ECONNABORTED']

/**
 * Serves a mounted device until it is unmounted. @throws HowdahError `fuse_unusable` when the kernel's protocol is too
 * old, `mount_failed` when the device fails
 */
export function serve(
  fd: number,
  fileSystem: FileSystem,
  mailbox: Mailbox,
  options: ServeOptions,
): Promise<void> {
  const device: Device = {
    read: (buffer) => readSync(fd, buffer, 0, buffer.length, null),
    write: (buffer, length) => {
      writeSync(fd, buffer, 0, length, null)
    },
  }
  return serveDevice(device, fileSystem, mailbox, options)
}

/** As `serve`, on any device. */
export async function serveDevice(
  device: Device,
  fileSystem: FileSystem,
  mailbox: Mailbox,
  options: ServeOptions,
): Promise<void> {
  const { logger } = options
  const operations = createOperations(fileSystem, options)
  const spareRequests: Request[] = []
  const spareReplies: Reply[] = []
  const killable = new Map<number, Waiting>()
  let request = new Request()
  /** An operation returned a promise: let the event loop run. */
  let started = false
  let ended = false
  let nearFull = false

  if (!agree()) return
  options.onReady?.()
  while (answerMany()) {
    if (mailbox.waiting()) mailbox.deliver()
    await setImmediate()
  }

  /** Answers requests until the event loop has to run; false when the device is gone. */
  function answerMany(): boolean {
    started = false
    while (!started && !ended) {
      if (fileSystem.nearFull !== nearFull) {
        nearFull = fileSystem.nearFull
        options.onNearFull?.(nearFull)
      }
      if (!mailbox.fallAsleep()) break
      const received = receive()
      mailbox.wakeUp()
      if (received && !ended) answer()
    }
    return !ended
  }

  /** Reads one message; false when none was received. */
  function receive(): boolean {
    try {
      const length = device.read(request.bytes)
      if (request.accept(length)) return true
      logger.error({ length }, 'the kernel sent an incomplete message on the FUSE device')
    } catch (error) {
      const code = codeOf(error)
      if (GONE.includes(code)) ended = true
      // The request was interrupted before it was read, or a signal arrived.
      else if (code !== 'ENOENT' && code !== 'EINTR') {
        throw new HowdahError('mount_failed', 'the FUSE device cannot be read', { cause: error })
      }
    }
    return false
  }

  function answer(): void {
    const opcode = request.word(IN.OPCODE)
    const low = request.word(IN.UNIQUE)
    const high = request.word(IN.UNIQUE + 1)
    if (opcode === OP.INTERRUPT) {
      interrupt()
      return
    }
    const reply = takeReply()
    const operation = operations[opcode]
    if (operation === undefined) {
      send(reply, reply.finish(low, high, errno.ENOSYS, 0))
      return
    }
    try {
      const result = operation(request, reply)
      if (typeof result !== 'number') wait(opcode, low, high, reply, result)
      else if (result === NO_REPLY) giveBack(reply)
      else send(reply, reply.finish(low, high, 0, result))
    } catch (error) {
      send(reply, reply.finish(low, high, errnoOf(error, opcode), 0))
    }
  }

  function wait(opcode: number, low: number, high: number, reply: Reply, result: Promise<number>): void {
    started = true
    const mine: Waiting = { pid: request.word(IN.PID), answered: false }
    const unique = request.long(IN.UNIQUE)
    const held = opcode === OP.WRITE ? request : undefined
    if (isKillable(opcode)) killable.set(unique, mine)
    if (held !== undefined) request = spareRequests.pop() ?? new Request()

    const completed = (error: number, length: number) => {
      if (isKillable(opcode)) killable.delete(unique)
      if (held !== undefined && spareRequests.length < MAX_SPARE) spareRequests.push(held)
      if (mine.answered || ended) giveBack(reply)
      else send(reply, reply.finish(low, high, error, length))
    }
    result.then(
      (length) => completed(0, length),
      (error: unknown) => completed(errnoOf(error, opcode), 0),
    )
  }

  /**
   * A waiting thread received a signal. The kernel does not say whether the signal is fatal, and programs do not expect
   * reads of files to be interrupted by others; so a request is ended only when its thread is being killed. All other
   * requests finish soon, or must not be left incomplete. The kernel reports only the first signal; a fatal one after it is
   * noticed by making the kernel send the INTERRUPT again while the thread waits.
   */
  function interrupt(): void {
    const low = request.word(IN.SIZE_WORDS)
    const high = request.word(IN.SIZE_WORDS + 1)
    const mine = killable.get(request.long(IN.SIZE_WORDS))
    const pid = mine?.pid ?? options.directReads?.requesterOf(low, high)
    if (pid === undefined || mine?.answered) return
    if (!isBeingKilled(pid)) {
      options.retryInterrupt?.(request.word(IN.UNIQUE), request.word(IN.UNIQUE + 1))
      return
    }
    if (mine !== undefined) mine.answered = true
    const reply = takeReply()
    send(reply, reply.finish(low, high, errno.EINTR, 0))
  }

  function send(reply: Reply, length: number): void {
    try {
      device.write(reply.bytes, length)
    } catch (error) {
      const code = codeOf(error)
      if (GONE.includes(code)) ended = true
      // ENOENT: the request was aborted.
      else if (code !== 'ENOENT') logger.error({ err: error }, 'the kernel refused a reply')
    }
    giveBack(reply)
  }

  function takeReply(): Reply {
    return spareReplies.pop() ?? new Reply(fileSystem)
  }

  function giveBack(reply: Reply): void {
    if (spareReplies.length < MAX_SPARE) spareReplies.push(reply)
  }

  function errnoOf(error: unknown, opcode: number): number {
    const name = error instanceof FileSystemError ? error.errno : 'EIO'
    if (name === 'EIO') logger.error({ err: error, opcode }, 'a file operation failed')
    return (errno as Record<string, number>)[name] ?? errno.EIO
  }

  /** Answers INIT. False when the device was gone before. */
  function agree(): boolean {
    for (;;) {
      if (ended) return false
      if (!receive()) continue
      const low = request.word(IN.UNIQUE)
      const high = request.word(IN.UNIQUE + 1)
      const reply = takeReply()
      if (request.word(IN.OPCODE) !== OP.INIT) {
        send(reply, reply.finish(low, high, errno.EIO, 0))
        continue
      }
      const answered = negotiate(request, reply)
      if (answered.outcome === 'refused') {
        send(reply, reply.finish(low, high, answered.errno, 0))
        throw new HowdahError(
          'fuse_unusable',
          'the kernel is too old: its FUSE protocol is older than 7.23 (Linux 3.15)',
        )
      }
      send(reply, reply.finish(low, high, 0, answered.length))
      if (answered.outcome === 'agreed') return !ended
    }
  }
}

/** A read changes nothing, and a waiting lookup takes no reference: only those of files in `wal/` wait. */
function isKillable(opcode: number): boolean {
  return opcode === OP.READ || opcode === OP.LOOKUP
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

/**
 * For a fatal signal the kernel makes SIGKILL pending for all threads of the process before it wakes them. Source: Linux,
 * kernel/signal.c, complete_signal; `SigPnd` in proc(5). A thread that no longer exists does not wait either.
 */
function isBeingKilled(thread: number): boolean {
  try {
    const pending = /^SigPnd:\t([0-9a-f]+)$/m.exec(readFileSync(`/proc/${thread}/status`, 'latin1'))?.[1]
    return ((Number.parseInt((pending ?? '0').slice(-4), 16) >> (constants.signals.SIGKILL - 1)) & 1) === 1
  } catch {
    return true
  }
}
