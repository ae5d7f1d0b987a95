/**
 * The loop on the device: reads a request (device-channel.ts), answers it synchronously when local state can, otherwise
 * reads the next one while it waits (waiting-requests.ts). It blocks its thread while there are no requests.
 *
 * Nothing else runs in this thread between two requests, except when messages are waiting or an operation returned a
 * promise: then the loop yields to the event loop once, so that promises can settle.
 */
import { readSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { setImmediate } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { ObserveLatency } from '../../../../../config/monitoring/latencies.ts'
import { HowdahError } from '../../../../../messages/errors.ts'
import type { FileSystem } from '../../file-system.ts'
import { type Device, DeviceChannel } from './device-channel.ts'
import { errorNumber } from './error-numbers.ts'
import type { Mailbox } from './mailbox.ts'
import { type Agreement, negotiate } from './negotiation.ts'
import { NO_REPLY, transferred } from './operation.ts'
import { createOperations, type OperationOptions } from './operations.ts'
import { IN, MAJOR, OLDEST_MINOR, OP } from './protocol.ts'
import { createWaitingRequests, type WaitingRequestsOptions } from './waiting-requests.ts'

export interface ServeOptions
  extends OperationOptions,
    Pick<WaitingRequestsOptions, 'directReads' | 'retryInterrupt'> {
  readonly logger: Logger
  /** Called for each request that was answered here, with its operation; of a read and a write with its bytes. */
  readonly observe?: ObserveLatency
  /** INIT was answered: from now on the mount answers, and `wakeServer` may be called. */
  readonly onAgreed?: (agreement: Agreement) => void
  /** The file system became near full, or no longer is: files are to be switched, see write-through.ts. */
  readonly onNearFull?: (nearFull: boolean) => void
}

const { errno } = constants

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
  const channel = new DeviceChannel(device, fileSystem, options.logger)
  const agreement = answerInit(channel)
  if (agreement === undefined) return
  options.onAgreed?.(agreement)
  const answer = createAnswerer(channel, fileSystem, options)
  let nearFull = false

  /** Answers requests until the event loop has to run; false when the device is gone. */
  function answerMany(): boolean {
    let waits = false
    while (!waits && !channel.ended) {
      if (fileSystem.nearFull !== nearFull) {
        nearFull = fileSystem.nearFull
        options.onNearFull?.(nearFull)
      }
      if (!mailbox.fallAsleep()) break
      const received = channel.receive()
      mailbox.wakeUp()
      if (received && !channel.ended) waits = answer()
    }
    return !channel.ended
  }

  while (answerMany()) {
    if (mailbox.waiting()) mailbox.deliver()
    await setImmediate()
  }
}

/** Makes the function that answers the channel's request; it returns whether the answer has to wait for a promise. */
function createAnswerer(
  channel: DeviceChannel,
  fileSystem: FileSystem,
  options: ServeOptions,
): () => boolean {
  const { logger, directReads, retryInterrupt, observe = () => undefined } = options
  const operations = createOperations(fileSystem, options)
  const waiting = createWaitingRequests({ channel, logger, directReads, retryInterrupt, observe })

  return () => {
    const startedAt = performance.now()
    const { request } = channel
    const opcode = request.word(IN.OPCODE)
    if (opcode === OP.INTERRUPT) {
      waiting.interrupt()
      return false
    }
    const low = request.word(IN.UNIQUE)
    const high = request.word(IN.UNIQUE + 1)
    const reply = channel.takeReply()
    const operation = operations[opcode]
    if (operation === undefined) {
      channel.send(reply, reply.finish(low, high, errno.ENOSYS, 0))
      return false
    }
    try {
      const result = operation(request, reply)
      if (typeof result !== 'number') {
        waiting.add(opcode, reply, result, startedAt)
        return true
      }
      if (result === NO_REPLY) {
        channel.giveBack(reply)
        return false
      }
      channel.send(reply, reply.finish(low, high, 0, result))
      observe(opcode, performance.now() - startedAt, transferred(request, opcode, result))
    } catch (error) {
      channel.send(reply, reply.finish(low, high, errorNumber(error, opcode, logger), 0))
      observe(opcode, performance.now() - startedAt, 0)
    }
    return false
  }
}

/** Answers INIT, and by EIO what comes before it. Undefined when the device was gone before. @throws as `serve` */
function answerInit(channel: DeviceChannel): Agreement | undefined {
  while (!channel.ended) {
    if (!channel.receive()) continue
    const { request } = channel
    const low = request.word(IN.UNIQUE)
    const high = request.word(IN.UNIQUE + 1)
    const reply = channel.takeReply()
    if (request.word(IN.OPCODE) !== OP.INIT) {
      channel.send(reply, reply.finish(low, high, errno.EIO, 0))
      continue
    }
    const answered = negotiate(request, reply)
    if (answered.outcome === 'refused') {
      channel.send(reply, reply.finish(low, high, answered.errno, 0))
      throw new HowdahError(
        'fuse_unusable',
        `the kernel is too old: its FUSE protocol is older than ${MAJOR}.${OLDEST_MINOR} (Linux 4.18)`,
      )
    }
    channel.send(reply, reply.finish(low, high, 0, answered.length))
    if (answered.outcome === 'agreed') return channel.ended ? undefined : answered.agreement
  }
  return undefined
}
