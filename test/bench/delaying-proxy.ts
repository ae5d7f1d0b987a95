/** A TCP proxy on loopback behind which a server seems to be far away: every byte arrives a while later. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Scope } from './scope.ts'

/** Bytes on the way, in each direction of a connection, beyond which its sender waits. */
const MAX_UNDER_WAY = 64 * 1024 ** 2

/** Ends with the scope. @returns the port that leads to `port` */
export async function delayingProxy(scope: Scope, port: number, roundTripMs: number): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1')
    for (const socket of [near, far]) {
      socket.setNoDelay(true)
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    }
    carry(near, far, roundTripMs / 2)
    carry(far, near, roundTripMs / 2)
  })
  scope.defer('the delaying proxy', async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

function carry(from: Socket, to: Socket, delayMs: number): void {
  let underWay = 0
  const later = (act: () => void) => setTimeout(act, delayMs)
  from.on('data', (chunk: Buffer) => {
    underWay += chunk.length
    if (underWay > MAX_UNDER_WAY) from.pause()
    later(() => {
      underWay -= chunk.length
      if (from.isPaused()) from.resume()
      to.write(chunk)
    })
  })
  from.on('end', () => later(() => to.end()))
  from.on('error', () => later(() => to.destroy()))
}
