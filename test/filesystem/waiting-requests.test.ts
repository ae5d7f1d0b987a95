import { setImmediate as turn } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { DeviceChannel } from '../../agents/target/filesystem/drivers/kernel/device-channel.ts'
import { OP } from '../../agents/target/filesystem/drivers/kernel/protocol.ts'
import {
  createWaitingRequests,
  type WaitingRequestsOptions,
} from '../../agents/target/filesystem/drivers/kernel/waiting-requests.ts'
import { FileSystemError } from '../../agents/target/filesystem/file-system.ts'
import { message, messageDevice } from './support/fuse-messages.ts'

/** A thread that does not exist counts as killed. */
const NOBODY = 0x7ffffff0
const [EINTR, EIO, ENOSPC] = [-4, -5, -28]

function interrupt(unique: number, of: number): Buffer {
  const body = Buffer.alloc(8)
  body.writeBigUInt64LE(BigInt(of))
  return message(OP.INTERRUPT, unique, body)
}

describe('requests that wait', () => {
  const logger = pino({ level: 'silent' })

  /** Receives these requests, and lets all that are no INTERRUPT wait for `results`, in this order. */
  function make(
    requests: readonly Buffer[],
    results: readonly Promise<number>[],
    options: Pick<WaitingRequestsOptions, 'directReads' | 'retryInterrupt'> = {},
  ) {
    const device = messageDevice(requests)
    const channel = new DeviceChannel(device, { nearFull: false }, logger)
    const waiting = createWaitingRequests({ channel, logger, ...options })
    const left = [...results]
    for (const request of requests) {
      channel.receive()
      const opcode = request.readUInt32LE(4)
      if (opcode === OP.INTERRUPT) waiting.interrupt()
      else waiting.add(opcode, channel.takeReply(), left.shift() ?? Promise.resolve(0), 0)
    }
    return {
      channel,
      answers: () => device.answers.map(({ unique, error, data }) => [unique, error, data.length]),
    }
  }

  it('are answered when they complete, in whatever order', async () => {
    const first = Promise.withResolvers<number>()
    const { answers } = make([message(OP.READ, 2), message(OP.READ, 4)], [first.promise, Promise.resolve(8)])
    await turn()
    expect(answers()).to.deep.equal([[4, 0, 8]])
    first.resolve(16)
    await turn()
    expect(answers()).to.deep.equal([
      [4, 0, 8],
      [2, 0, 16],
    ])
  })

  it('are answered with the error of the file system, or EIO', async () => {
    const failures = [new FileSystemError('ENOSPC'), new TypeError('a mistake')].map((error) =>
      Promise.reject(error),
    )
    const { answers } = make([message(OP.WRITE, 2), message(OP.FSYNC, 4)], failures)
    await turn()
    expect(answers()).to.deep.equal([
      [2, ENOSPC, 0],
      [4, EIO, 0],
    ])
  })

  it('are not answered when the device is gone, or a second time after an INTERRUPT', async () => {
    const late = Promise.withResolvers<number>()
    const { answers } = make(
      [message(OP.READ, 2, undefined, NOBODY), interrupt(3, 2), interrupt(5, 2)],
      [late.promise],
    )
    expect(answers()).to.deep.equal([[2, EINTR, 0]])
    late.resolve(8)
    await turn()
    expect(answers()).to.deep.equal([[2, EINTR, 0]])

    const never = Promise.withResolvers<number>()
    const gone = make([message(OP.READ, 2)], [never.promise])
    gone.channel.receive()
    expect(gone.channel.ended).to.equal(true)
    never.resolve(8)
    await turn()
    expect(gone.answers()).to.deep.equal([])
  })

  it('end by an INTERRUPT only when nothing is left incomplete', () => {
    const opcodes = [OP.READ, OP.LOOKUP, OP.WRITE, OP.FSYNC]
    const { answers } = make(
      opcodes.flatMap((opcode, index) => {
        const unique = 2 * index + 2
        return [message(opcode, unique, undefined, NOBODY), interrupt(unique + 1, unique)]
      }),
      opcodes.map(() => new Promise<number>(() => undefined)),
    )
    expect(answers().map(([unique]) => unique)).to.deep.equal([2, 4])
  })

  it('have the INTERRUPT sent again while their thread lives', () => {
    const again: number[][] = []
    const { answers } = make([message(OP.READ, 2), interrupt(3, 2)], [new Promise<number>(() => undefined)], {
      retryInterrupt: (low, high) => again.push([low, high]),
    })
    expect([answers(), again]).to.deep.equal([[], [[3, 0]]])
  })

  it('keep what is to be written until they complete', async () => {
    const done = Promise.withResolvers<number>()
    const { channel } = make([message(OP.WRITE, 2), message(OP.GETATTR, 4)], [done.promise])
    const current = channel.request
    done.resolve(0)
    await turn()
    channel.keepRequest()
    expect(channel.request).not.to.equal(current)
    expect(channel.request.word(2)).to.equal(2)
  })
})
