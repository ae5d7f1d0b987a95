/** Chooses TCP ports for servers that are found again on the same port when they come back. */
import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/**
 * Below those that Linux gives to outgoing connections (net.ipv4.ip_local_port_range begins at 32768): one of these
 * would be taken now and then while its server is away, also by a client that tries to reach it.
 */
const [FIRST, LAST] = [10_000, 32_000]
const MOST_TRIES = 1_000

/**
 * A port that nothing listens on now: `wanted` if that is free.
 * @throws Error when none is found, or the address is not this machine's
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
      // Ports below 1024 are for root, who may have had one before.
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(false)
      else reject(error)
    })
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}
