/** Which peers are admitted, and what one that violates the protocol can do: lose its own connection, nothing else. */
import { randomBytes } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { expect } from 'chai'
import type { BackupSource, DamagedBlockListener } from '../../agents/dataplane/backup-source.ts'
import { FrameParser } from '../../agents/dataplane/protocol/frames.ts'
import {
  CLIENT_FRAMES,
  decodeError,
  encodeEmpty,
  encodeHeader,
  encodeHello,
  encodeTree,
  FRAME,
  MAX_READ_BYTES,
  OLDEST_VERSION,
  PROTOCOL_VERSION,
  SERVER_FRAMES,
} from '../../agents/dataplane/protocol/protocol.ts'
import { encodeRead, encodeWalName } from '../../agents/dataplane/protocol/read-codec.ts'
import { signTicket } from '../../agents/dataplane/protocol/ticket.ts'
import { HowdahError } from '../../messages/errors.ts'
import { expectFailure, ticket, ticketKey, until, useDataPlane } from './fixture.ts'
import { createMemorySource, makeTree } from './memory-source.ts'

const validHello = encodeHello(signTicket(ticket, ticketKey))

interface Frame {
  readonly type: number
  readonly id: number
  readonly payload: Buffer
}

function closing(socket: TLSSocket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve()
    else socket.once('close', () => resolve())
  })
}

/** Collects the server's frames. */
function listen(socket: TLSSocket): { readonly frames: Frame[]; readonly closed: Promise<void> } {
  const frames: Frame[] = []
  const parser = new FrameParser(SERVER_FRAMES, (type, id, payload) => frames.push({ type, id, payload }))
  socket.on('data', (chunk: Buffer) => parser.push(chunk))
  return { frames, closed: closing(socket) }
}

describe('the data plane and its peers', function () {
  this.timeout(30_000)
  const plane = useDataPlane()

  it('serves mount processes of the previous version, and sends them no frame that is new to them', async () => {
    let report: DamagedBlockListener | undefined
    const source: BackupSource = {
      ...createMemorySource({ beforeRead: (file) => report?.(file, 0) }),
      onDamagedBlock(listener) {
        report = listener
        return () => undefined
      },
    }
    for (const version of [OLDEST_VERSION, PROTOCOL_VERSION]) {
      const socket = await plane.connectRaw(await plane.serve(source))
      const { frames } = listen(socket)
      socket.write(encodeHello(signTicket(ticket, ticketKey), version))
      socket.write(encodeRead(1, 3, 0, 10))
      await until(() => frames.some(({ type }) => type === FRAME.data))
      const [welcome, ...others] = frames
      expect(welcome?.payload.readUInt16BE(0)).to.equal(version)
      expect(others.map(({ type }) => type)).to.deep.equal(
        version === PROTOCOL_VERSION ? [FRAME.damagedBlock, FRAME.data] : [FRAME.data],
      )
      socket.destroy()
    }
  })

  it('refuses mount processes of any other version', async () => {
    for (const version of [OLDEST_VERSION - 1, PROTOCOL_VERSION + 1]) {
      const hello = encodeHello(signTicket(ticket, ticketKey), version)
      await expectRefused((socket) => socket.write(hello), 'unauthorized')
    }
  })

  /** Expects the server to end that connection with an error, and to serve others as before. */
  async function expectRefused(write: (socket: TLSSocket) => void, code: string): Promise<void> {
    const server = await plane.serve(createMemorySource())
    const other = plane.connect(server)
    await other.read(1, 0, 10)
    const socket = await plane.connectRaw(server)
    const { frames, closed } = listen(socket)
    write(socket)
    await closed
    const last = frames.at(-1)
    expect(last?.type).to.equal(FRAME.error)
    expect(decodeError(last?.payload ?? Buffer.alloc(0)).code).to.equal(code)
    expect((await other.read(2, 0, 10)).length).to.equal(10)
    expect(other.connected).to.equal(true)
  }

  it('refuses a client without a certificate', async () => {
    const server = await plane.serve(createMemorySource())
    const socket = await plane.connectRaw(server, { cert: undefined, key: undefined })
    await closing(socket)
    expect((await plane.connect(server).read(1, 0, 10)).length).to.equal(10)
  })

  it('refuses a client whose certificate another authority signed', async () => {
    let opened = false
    const server = await plane.serve(async () => {
      opened = true
      return createMemorySource()
    })
    const socket = await plane.connectRaw(server, {
      ...plane.strangers.target,
      ca: plane.certificates.mount.ca,
      servername: 'vault.mount.howdah',
    })
    socket.write(validHello)
    await closing(socket)
    expect(opened).to.equal(false)
  })

  it('refuses a mount server that connects with its own certificate and the ticket of a target', async () => {
    const server = await plane.serve(createMemorySource())
    const client = plane.connect(server, { tls: plane.certificates.mount })
    const error = await expectFailure(client.read(1, 0, 10), 'unauthorized')
    expect(error.message).to.contain('howdah-mount-vault').and.to.contain('howdah-target-replica')
  })

  it('refuses a server whose certificate another authority signed', async () => {
    const server = await plane.serve(createMemorySource(), { tls: plane.strangers.mount })
    const client = plane.connect(server)
    await expectFailure(client.read(1, 0, 10), 'unauthorized')
    expect(client.lastError).to.contain('certificate')
  })

  it('refuses a server of another name', async () => {
    const server = await plane.serve(createMemorySource())
    await expectFailure(plane.connect(server, { serverName: 'other' }).read(1, 0, 10), 'unauthorized')
  })

  it('refuses a ticket for another target', async () => {
    const server = await plane.serve(createMemorySource())
    const client = plane.connect(server, { tls: plane.certificates.otherTarget })
    const error = await expectFailure(client.read(1, 0, 10), 'unauthorized')
    expect(error.message).to.contain('replica').and.to.contain('other')
  })

  it('refuses a forged ticket', async () => {
    const server = await plane.serve(createMemorySource())
    const client = plane.connect(server, { ticket: signTicket(ticket, Buffer.alloc(32, 8)) })
    await expectFailure(client.read(1, 0, 10), 'unauthorized')
    await expectFailure(client.walSize('000000010000000000000001'), 'unauthorized')
  })

  it('reports why a backup cannot be opened, and serves it once it can', async () => {
    let there = false
    const server = await plane.serve(async () => {
      if (!there) throw new HowdahError('unknown_backup', 'Instance main has no backup X; it has Y.')
      return createMemorySource()
    })
    const client = plane.connect(server)
    const error = await expectFailure(client.read(1, 0, 10), 'unknown_backup')
    expect(error.message).to.contain('it has Y')
    there = true
    await until(() => client.connected)
    expect((await client.read(1, 0, 10)).length).to.equal(10)
  })

  it('closes a connection that begins with garbage', () =>
    expectRefused((socket) => socket.write('GET / HTTP/1.1\r\nHost: howdah\r\n\r\n'), 'invalid_message'))

  it('closes a connection that announces an oversize frame', () =>
    expectRefused((socket) => socket.write(encodeHeader(FRAME.hello, 0, 2 ** 31)), 'message_too_large'))

  it('closes a connection whose first frame is a read', () =>
    expectRefused((socket) => socket.write(encodeRead(1, 1, 0, 10)), 'invalid_message'))

  it('closes a connection whose hello does not come in time', async () => {
    const server = await plane.serve(createMemorySource(), { limits: { helloMs: 50 } })
    const { frames, closed } = listen(await plane.connectRaw(server))
    await closed
    expect(decodeError(frames[0]?.payload ?? Buffer.alloc(0)).code).to.equal('timeout')
  })

  it('closes a connection that requests more than a frame holds', async () => {
    const server = await plane.serve(createMemorySource())
    const socket = await plane.connectRaw(server)
    const { frames, closed } = listen(socket)
    socket.write(validHello)
    await until(() => frames.length === 1)
    socket.write(encodeRead(1, 1, 0, MAX_READ_BYTES + 1))
    await closed
    expect(decodeError(frames[1]?.payload ?? Buffer.alloc(0)).code).to.equal('message_too_large')
  })

  it('closes a connection that requests a path instead of a WAL name', async () => {
    const server = await plane.serve(createMemorySource())
    const socket = await plane.connectRaw(server)
    const { frames, closed } = listen(socket)
    socket.write(validHello)
    await until(() => frames.length === 1)
    socket.write(encodeWalName(FRAME.walSize, 1, '../../../etc/shadow'))
    await closed
    expect(frames.at(-1)?.type).to.equal(FRAME.error)
  })

  it('survives random bytes after a valid hello', async () => {
    const server = await plane.serve(createMemorySource())
    for (let n = 0; n < 20; n++) {
      const socket = await plane.connectRaw(server)
      const { closed } = listen(socket)
      socket.write(validHello)
      for (const type of CLIENT_FRAMES.keys()) {
        const payload = randomBytes(n % 17)
        const frame = Buffer.concat([encodeHeader(FRAME.read, n, payload.length), payload])
        frame[8] = type
        socket.write(frame)
      }
      socket.write(randomBytes(1000))
      await closed
    }
    expect((await plane.connect(server).read(1, 0, 10)).length).to.equal(10)
  })

  it('bounds the memory that a client takes which does not read', async () => {
    const size = 64 * 1024
    const bytesInFlight = 512 * 1024
    let reads = 0
    const server = await plane.serve(
      createMemorySource({
        entries: makeTree(100_000),
        beforeRead: () => {
          reads += 1
        },
      }),
      { limits: { bytesInFlight, waiting: 50 } },
    )
    const socket = await plane.connectRaw(server)
    const { frames } = listen(socket)
    socket.write(validHello)
    await until(() => frames.length === 1)
    socket.pause()
    socket.write(encodeTree(100_000, 0, 0xffff_ffff))
    for (let id = 1; id <= 1000; id++) socket.write(encodeRead(id, 1, 0, size))
    for (let n = 0; n < 20_000; n++) socket.write(encodeEmpty(FRAME.ping, 0))
    const other = plane.connect(server)
    for (let n = 0; n < 50; n++) expect((await other.read(2, 0, 10)).length).to.equal(10)
    // The kernel's socket buffers take some on top.
    expect(reads - 50).to.be.lessThan((bytesInFlight + 16 * 1024 * 1024) / size)
    socket.resume()
    await until(() => reads === 1050)
  })

  it('closes a connection that has had no traffic for too long', async () => {
    const source = createMemorySource()
    const server = await plane.serve(source, { limits: { idleMs: 100, unusedMs: 1 } })
    const socket = await plane.connectRaw(server)
    const { frames } = listen(socket)
    socket.write(validHello)
    await until(() => frames.length === 1)
    socket.pause()
    for (let id = 1; id <= 200; id++) socket.write(encodeRead(id, 1, 0, MAX_READ_BYTES))
    await until(() => source.closed)
  })
})
