/**
 * Requests whose reply has to wait, for a missing block or a sync, and the kernel's INTERRUPT of them. Answers each once,
 * when it completes or its requester is killed.
 */
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import type { Logger } from 'pino'
import type { ObserveLatency } from '../../../../../config/monitoring/latencies.ts'
import type { DirectReads } from '../../reads/direct-reads.ts'
import type { DeviceChannel } from './device-channel.ts'
import { errorNumber } from './error-numbers.ts'
import { transferred } from './operation.ts'
import { IN, OP } from './protocol.ts'
import type { Reply } from './reply.ts'

export interface WaitingRequestsOptions {
  readonly channel: DeviceChannel
  readonly logger: Logger
  /** Reads whose reply another thread sends. */
  readonly directReads?: Pick<DirectReads, 'requesterOf'> | undefined
  /** Answers the INTERRUPT with this unique number by EAGAIN after a delay, upon which the kernel sends it again. */
  readonly retryInterrupt?: ((low: number, high: number) => void) | undefined
  /** As of `serve`. */
  readonly observe?: ObserveLatency
}

/** A waiting request that is ended when its requester is killed. */
interface Killable {
  /** The requesting thread. */
  readonly pid: number
  answered: boolean
}

export interface WaitingRequests {
  /**
   * Answers the channel's request with `reply` when `result` settles: the bytes of data, or an error. `startedAt`: when it was
   * received, by the clock of `performance.now`.
   */
  add(opcode: number, reply: Reply, result: Promise<number>, startedAt: number): void
  /**
   * Handles the channel's request, an INTERRUPT: a waiting thread received a signal. The kernel does not say whether the
   * signal is fatal, and programs do not expect reads of files to be interrupted by others; so a request is ended only when
   * its thread is being killed. All other requests finish soon, or must not be left incomplete. The kernel reports only the
   * first signal; a fatal one after it is noticed by making the kernel send the INTERRUPT again while the thread waits.
   */
  interrupt(): void
}

export function createWaitingRequests(options: WaitingRequestsOptions): WaitingRequests {
  const { channel, logger, directReads, retryInterrupt, observe = () => undefined } = options
  /** By their unique numbers. */
  const killable = new Map<number, Killable>()

  return {
    add(opcode, reply, result, startedAt) {
      const { request } = channel
      const low = request.word(IN.UNIQUE)
      const high = request.word(IN.UNIQUE + 1)
      const unique = request.long(IN.UNIQUE)
      const waiting: Killable = { pid: request.word(IN.PID), answered: false }
      if (isKillable(opcode)) killable.set(unique, waiting)
      // The file system still reads what is to be written.
      const kept = opcode === OP.WRITE ? channel.keepRequest() : undefined

      const toWrite = transferred(request, opcode, 0)

      const completed = (error: number, length: number) => {
        if (isKillable(opcode)) killable.delete(unique)
        if (kept !== undefined) channel.releaseRequest(kept)
        if (waiting.answered || channel.ended) channel.giveBack(reply)
        else channel.send(reply, reply.finish(low, high, error, length))
        const bytes = opcode === OP.READ ? length : toWrite
        observe(opcode, performance.now() - startedAt, error === 0 ? bytes : 0)
      }
      result.then(
        (length) => completed(0, length),
        (error: unknown) => completed(errorNumber(error, opcode, logger), 0),
      )
    },

    interrupt() {
      const { request } = channel
      // `fuse_interrupt_in`: the unique number of the interrupted request.
      const low = request.word(IN.SIZE_WORDS)
      const high = request.word(IN.SIZE_WORDS + 1)
      const waiting = killable.get(request.long(IN.SIZE_WORDS))
      const pid = waiting?.pid ?? directReads?.requesterOf(low, high)
      if (pid === undefined || waiting?.answered) return
      if (!isBeingKilled(pid)) {
        retryInterrupt?.(request.word(IN.UNIQUE), request.word(IN.UNIQUE + 1))
        return
      }
      if (waiting !== undefined) waiting.answered = true
      const reply = channel.takeReply()
      channel.send(reply, reply.finish(low, high, constants.errno.EINTR, 0))
    },
  }
}

/** A read changes nothing, and a waiting lookup takes no reference: only those of files in `wal/` wait. */
function isKillable(opcode: number): boolean {
  return opcode === OP.READ || opcode === OP.LOOKUP
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
