/** Messages of the kernel, and a FUSE device that is an array of them. */
import type { Device } from '../../../agents/target/filesystem/drivers/kernel/device-channel.ts'

/** A request: `fuse_in_header` and a body. */
export function message(
  opcode: number,
  unique: number,
  body: Buffer = Buffer.alloc(0),
  pid = process.pid,
): Buffer {
  const header = Buffer.alloc(40)
  header.writeUInt32LE(40 + body.length, 0)
  header.writeUInt32LE(opcode, 4)
  header.writeBigUInt64LE(BigInt(unique), 8)
  header.writeBigUInt64LE(2n, 16)
  header.writeUInt32LE(pid, 32)
  return Buffer.concat([header, body])
}

export interface Answer {
  readonly error: number
  readonly unique: number
  readonly data: Buffer
}

/** The error of a system call. */
export const failure = (code: string): Error => Object.assign(new Error(code), { code })

/**
 * Hands out messages, and throws the errors among them; after the last the device is gone. `answers` are in the order in
 * which they were written.
 */
export function messageDevice(
  messages: readonly (Buffer | Error)[],
  beforeEnd: () => void = () => undefined,
): Device & { readonly answers: Answer[] } {
  const left = [...messages]
  const answers: Answer[] = []
  return {
    answers,
    read(buffer) {
      const next = left.shift()
      if (next instanceof Error) throw next
      if (next !== undefined) return next.copy(buffer)
      beforeEnd()
      throw failure('ENODEV')
    },
    write(buffer, length) {
      if (buffer.readUInt32LE(0) !== length) throw failure('EINVAL')
      const data = Buffer.from(buffer.subarray(16, length))
      answers.push({ error: buffer.readInt32LE(4), unique: Number(buffer.readBigUInt64LE(8)), data })
    },
  }
}
