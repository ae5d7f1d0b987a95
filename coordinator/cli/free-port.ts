/** Chooses TCP ports for servers that keep their port across restarts. */
import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/**
 * Below the ephemeral ports of Linux (net.ipv4.ip_local_port_range begins at 32768): such a port could be taken while its
 * server restarts, even by a client that tries to connect to it.
 */
const [FIRST, LAST] = [10_000, 32_000]
const MOST_TRIES = 1_000

/**
 * A port that nothing listens on: `wanted` if that is free.
 * @throws Error when none is found, or the address is not local
 */
export async function freePort(address = '127.0.0.1', wanted?: number): Promise<number> {
  let port = wanted ?? randomInt(FIRST, LAST)
  for (let tries = 1; !(await isFree(address, port)); tries++) {
    if (tries === MOST_TRIES) throw new Error(`no free TCP port on ${address}`)
    port = randomInt(FIRST, LAST)
  }
  return port
}

function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      // Ports below 1024 need root, which an earlier start may have had.
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(false)
      else reject(error)
    })
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}
