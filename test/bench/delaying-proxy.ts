/** Owns a TCP proxy on loopback that delays every byte, as if the server were far away. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Scope } from './scope.ts'

/** Bytes in flight, in each direction of a connection, beyond which its sender waits. */
const MAX_UNDER_WAY = 64 * 1024 ** 2
const READ_BYTES = 256 * 1024

/** Ends with the scope. @returns the port that leads to `port` */
export async function delayingProxy(scope: Scope, port: number, roundTripMs: number): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const requests = delayed(roundTripMs / 2)
    const answers = delayed(roundTripMs / 2)
    // The proxy's processor time is missing from what is measured, so the bytes make no garbage.
    const free: Buffer[] = []
    const far = connect({
      ...{ port, host: '127.0.0.1' },
      onread: {
        buffer: () => free.pop() ?? Buffer.allocUnsafeSlow(READ_BYTES),
        callback(bytes: number, buffer: Uint8Array) {
          answers.take(near, far, Buffer.from(buffer.buffer, 0, bytes), () => free.push(buffer as Buffer))
          return true
        },
      },
    })
    near.on('data', (chunk: Buffer) => requests.take(far, near, chunk))
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.setNoDelay(true)
      sockets.add(from)
      from.on('close', () => sockets.delete(from))
      from.on('end', () => setTimeout(() => to.end(), roundTripMs / 2))
      from.on('error', () => setTimeout(() => to.destroy(), roundTripMs / 2))
    }
  })
  scope.defer('the delaying proxy', async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** One direction of a connection. */
function delayed(delayMs: number) {
  let underWay = 0
  return {
    take(to: Socket, from: Socket, chunk: Buffer, written?: () => void): void {
      underWay += chunk.length
      if (underWay > MAX_UNDER_WAY) from.pause()
      setTimeout(() => {
        underWay -= chunk.length
        if (from.isPaused()) from.resume()
        to.write(chunk, written)
      }, delayMs)
    },
  }
}
