/**
 * A proxy in front of a broker that, while it is silent, swallows what clients do on channels. Heartbeats and the methods of
 * the connection itself pass: so behaves a broker that is booting, or whose queues have no leader.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface SilentProxy {
  /** The broker's, through the proxy. */
  readonly url: string
  /** A connection of which something was swallowed stays silent to its end. */
  isSilent: boolean
  /** Connections of which something was swallowed. */
  readonly silenced: number
  /** Ends every connection. */
  cut(): void
  close(): Promise<void>
}

/** AMQP 0-9-1, 2.3.5: a frame is type, channel, size, payload and end mark. Before the first comes a protocol header. */
const PROTOCOL_HEADER_BYTES = 8
const FRAME_HEADER_BYTES = 7
const END_BYTES = 1

/** @param url of a broker, without TLS */
export async function startSilentProxy(url: string): Promise<SilentProxy> {
  const broker = new URL(url)
  const sockets = new Set<Socket>()
  let isSilent = false
  let silenced = 0

  const listener = createServer((client) => {
    const server = connect(Number(broker.port), broker.hostname)
    let isSwallowing = false
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(from)
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
    server.pipe(client)
    forEachFrame(client, (frame, channel) => {
      if (channel !== 0 && isSilent && !isSwallowing) {
        isSwallowing = true
        silenced += 1
      }
      if (channel === 0 || !isSwallowing) server.write(frame)
    })
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = new URL(url)
  address.hostname = '127.0.0.1'
  address.port = String((listener.address() as AddressInfo).port)

  const proxy = {
    url: address.href,
    get isSilent() {
      return isSilent
    },
    set isSilent(silent) {
      isSilent = silent
    },
    get silenced() {
      return silenced
    },
    cut() {
      for (const socket of sockets) socket.destroy()
    },
    async close() {
      listener.close()
      proxy.cut()
      await once(listener, 'close')
    },
  }
  return proxy
}

/** The protocol header counts as a frame of channel 0. */
function forEachFrame(socket: Socket, take: (frame: Buffer, channel: number) => void): void {
  let rest: Buffer = Buffer.alloc(0)
  let isFirst = true
  const nextBytes = (): number => {
    if (isFirst) return PROTOCOL_HEADER_BYTES
    if (rest.length < FRAME_HEADER_BYTES) return FRAME_HEADER_BYTES
    return FRAME_HEADER_BYTES + rest.readUInt32BE(3) + END_BYTES
  }
  socket.on('data', (bytes: Buffer) => {
    rest = Buffer.concat([rest, bytes])
    for (let bytes = nextBytes(); rest.length >= bytes; bytes = nextBytes()) {
      take(rest.subarray(0, bytes), isFirst ? 0 : rest.readUInt16BE(1))
      rest = rest.subarray(bytes)
      isFirst = false
    }
  })
}
