/** The kernel's protocol where no kernel can be had to speak it wrongly: the device is an array of messages. */
import { expect } from 'chai'
import { pino } from 'pino'
import type { Mailbox } from '../../../agents/target/filesystem/drivers/kernel/mailbox.ts'
import { decodeName, encodeName, nameLength } from '../../../agents/target/filesystem/drivers/kernel/names.ts'
import { INIT, OP } from '../../../agents/target/filesystem/drivers/kernel/protocol.ts'
import { type ServeOptions, serveDevice } from '../../../agents/target/filesystem/drivers/kernel/serve.ts'
import {
  ANSWERED_BY_OTHER_THREAD,
  type FileSystem,
  FileSystemError,
} from '../../../agents/target/filesystem/file-system.ts'
import type { Requester } from '../../../agents/target/filesystem/reads/direct-reads.ts'
import { type Answer, message, messageDevice } from '../support/fuse-messages.ts'

const ERRNO = { EINTR: -4, EIO: -5, EINVAL: -22, ENAMETOOLONG: -36, ENOSYS: -38, EPROTO: -71 }
const NOBODY = 0x7ffffff0

function init(major: number, minor: number, flags = 0xffffffff): Buffer {
  const body = Buffer.alloc(64)
  body.writeUInt32LE(major, 0)
  body.writeUInt32LE(minor, 4)
  body.writeUInt32LE(flags, 12)
  return message(OP.INIT, 1, body)
}

const AGREED = init(7, 45)

/** Of a file system that waits for nothing outside its thread. */
const emptyMailbox: Mailbox = {
  waiting: () => false,
  fallAsleep: () => true,
  wakeUp: () => undefined,
  deliver: () => undefined,
}

/** A file system that has only what a test needs of it. */
function only(operations: Partial<FileSystem>): FileSystem {
  return { nearFull: false, ...operations } as FileSystem
}

/** Serves these messages and then the end; gives the answers by their number. */
async function serveMessages(
  messages: readonly Buffer[],
  fileSystem: FileSystem,
  beforeEnd: () => void = () => undefined,
  options: Pick<ServeOptions, 'directReads' | 'retryInterrupt'> = {},
): Promise<Map<number, Answer>> {
  const device = messageDevice(messages, beforeEnd)
  await serveDevice(device, fileSystem, emptyMailbox, { logger: pino({ level: 'silent' }), ...options })
  return new Map(device.answers.map((answer) => [answer.unique, answer]))
}

describe('the kernel driver', () => {
  it('negotiates the newest version that both sides support', async () => {
    const answers = await serveMessages([init(7, 31)], only({}))
    expect(answers.get(1)?.error).to.equal(0)
    expect(answers.get(1)?.data.readUInt32LE(4)).to.equal(31)
  })

  it('enables the writeback cache only where files can be switched to write-through', async () => {
    const taken = async (offered: number) => {
      const answers = await serveMessages([init(7, 31, offered)], only({}))
      return (answers.get(1)?.data.readUInt32LE(12) ?? 0) >>> 0
    }
    expect((await taken(0xffffffff)) & INIT.WRITEBACK_CACHE).to.equal(INIT.WRITEBACK_CACHE)
    const without = await taken((0xffffffff & ~INIT.HANDLE_KILLPRIV_V2) >>> 0)
    expect(without & (INIT.WRITEBACK_CACHE | INIT.HANDLE_KILLPRIV_V2)).to.equal(0)
    expect(without & INIT.NO_OPEN_SUPPORT).to.equal(INIT.NO_OPEN_SUPPORT)
  })

  it('answers a kernel of a newer major version with its own, and waits for INIT with that', async () => {
    const seen: number[] = []
    const again = init(7, 45)
    again.writeBigUInt64LE(3n, 8)
    const answers = await serveMessages([init(8, 0), again], only({}), () => seen.push(1))
    expect(answers.get(1)?.data.readUInt32LE(0)).to.equal(7)
    expect(answers.get(3)?.error).to.equal(0)
  })

  it('refuses a kernel that is too old', async () => {
    const refused = await serveMessages([init(7, 12)], only({})).then(
      () => undefined,
      (error: { code: string }) => error.code,
    )
    expect(refused).to.equal('fuse_unusable')
  })

  it('answers an unknown operation with ENOSYS', async () => {
    const answers = await serveMessages([AGREED, message(9999, 4), message(0, 6)], only({}))
    expect([answers.get(4)?.error, answers.get(6)?.error]).to.deep.equal([ERRNO.ENOSYS, ERRNO.ENOSYS])
  })

  it('survives requests that are truncated or invalid', async () => {
    const fuzz: Buffer[] = []
    let unique = 10
    for (const opcode of Object.values(OP)) {
      if (opcode === OP.INIT) continue
      for (const body of [
        Buffer.alloc(0),
        Buffer.alloc(4, 0xff),
        Buffer.alloc(16, 0xff),
        Buffer.alloc(64, 0x41),
      ]) {
        fuzz.push(message(opcode, unique++, body))
      }
    }
    fuzz.push(message(OP.LOOKUP, unique++).subarray(0, 20))
    fuzz.push(message(OP.LOOKUP, 5, Buffer.from('name\0')))
    const fileSystem = new Proxy({} as FileSystem, {
      get: (_, name) => {
        if (name === 'nearFull') return false
        return () => {
          throw new FileSystemError('EIO')
        }
      },
    })
    const answers = await serveMessages([AGREED, ...fuzz], fileSystem)
    expect(answers.get(5)?.error).to.equal(ERRNO.EIO)
  })

  it('refuses names that do not end, are empty or are too long', async () => {
    const answers = await serveMessages(
      [
        AGREED,
        message(OP.LOOKUP, 2, Buffer.from('endless')),
        message(OP.LOOKUP, 4, Buffer.from('\0')),
        message(OP.LOOKUP, 6, Buffer.from(`${'n'.repeat(256)}\0`)),
      ],
      only({}),
    )
    expect([2, 4, 6].map((unique) => answers.get(unique)?.error)).to.deep.equal([
      ERRNO.EINVAL,
      ERRNO.EINVAL,
      ERRNO.ENAMETOOLONG,
    ])
  })

  it('answers EIO for errors that are not the file system’s', async () => {
    const fileSystem = only({
      getattr() {
        throw new TypeError('a mistake')
      },
    })
    const answers = await serveMessages([AGREED, message(OP.GETATTR, 2, Buffer.alloc(16))], fileSystem)
    expect(answers.get(2)?.error).to.equal(ERRNO.EIO)
  })

  it('ends the waiting read of a killed reader, and no other', async () => {
    const fileSystem = only({ read: () => new Promise<number>(() => undefined) })
    const again: number[][] = []
    const interrupt = (unique: number, of: number) => {
      const body = Buffer.alloc(8)
      body.writeBigUInt64LE(BigInt(of))
      return message(OP.INTERRUPT, unique, body)
    }
    const read = Buffer.alloc(40)
    read.writeUInt32LE(8192, 16)
    const answers = await serveMessages(
      [
        AGREED,
        message(OP.READ, 2, read, process.pid),
        message(OP.READ, 4, read, NOBODY),
        interrupt(3, 2),
        interrupt(5, 4),
        // No reader waits for that one.
        interrupt(9, 8),
      ],
      fileSystem,
      () => undefined,
      { retryInterrupt: (low, high) => again.push([low, high]) },
    )
    expect(answers.get(2)).to.equal(undefined)
    expect(answers.get(4)?.error).to.equal(ERRNO.EINTR)
    // For a reader that was not being killed the kernel is made to send the INTERRUPT again: it may be killed later.
    expect(again).to.deep.equal([[3, 0]])
  })

  it('ends such a read also when another thread is to send the reply', async () => {
    const requesters: Requester[] = []
    const fileSystem = only({
      read(_ino, _buffer, _length, _position, requester) {
        if (requester !== undefined) requesters.push({ ...requester })
        return ANSWERED_BY_OTHER_THREAD
      },
    })
    const directReads = {
      requesterOf: (low: number, high: number) =>
        requesters.find((requester) => requester.low === low && requester.high === high)?.pid,
    }
    const read = Buffer.alloc(40)
    const interrupt = Buffer.alloc(8)
    interrupt.writeUInt32LE(4)
    const answers = await serveMessages(
      [
        AGREED,
        message(OP.READ, 2, read, process.pid),
        message(OP.READ, 4, read, NOBODY),
        message(OP.INTERRUPT, 5, interrupt),
      ],
      fileSystem,
      () => undefined,
      { directReads },
    )
    expect(answers.get(2)).to.equal(undefined)
    expect(answers.get(4)?.error).to.equal(ERRNO.EINTR)
  })

  it('gives a waiting write its own buffer', async () => {
    const held: Buffer[] = []
    const write = (text: string) => {
      const body = Buffer.alloc(40 + text.length)
      body.writeUInt32LE(text.length, 16)
      body.write(text, 40)
      return body
    }
    const fileSystem = only({
      write: (_ino, buffer, length) => {
        held.push(buffer.subarray(0, length))
        return new Promise<number>(() => undefined)
      },
    })
    await serveMessages(
      [AGREED, message(OP.WRITE, 2, write('first')), message(OP.WRITE, 4, write('other'))],
      fileSystem,
    )
    expect(held.map(String)).to.deep.equal(['first', 'other'])
  })
})

describe('names between the kernel and the engine', () => {
  const through = (bytes: Buffer) => {
    const target = Buffer.alloc(300)
    const name = decodeName(bytes, 0, bytes.length)
    expect(name.isWellFormed()).to.equal(true)
    expect(nameLength(name)).to.equal(bytes.length)
    return target.subarray(0, encodeName(name, target, 0))
  }

  it('keep every byte', () => {
    for (let first = 1; first < 256; first++) {
      for (const second of [0x28, 0x80, 0xa9, 0xbf, 0xc3, 0xf4, 0xff]) {
        const bytes = Buffer.of(first, second, 0x8f, 0xbf, second)
        expect(through(bytes)).to.deep.equal(bytes)
      }
    }
  })

  it('are two strings when they are two names', () => {
    const names = [[0xff], [0xf4, 0x8f, 0xbf, 0xbf], [0xf4, 0x8f, 0xbe, 0x80], [0x80], [0xef, 0xbf, 0xbd]]
    const strings = names.map((bytes) => decodeName(Buffer.from(bytes), 0, bytes.length))
    expect(new Set(strings).size).to.equal(names.length)
  })
})
