/** Owns a TCP proxy whose answers can be delayed, as if the server were far away. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export interface SlowLink {
  /** Milliseconds that each answer is held back from now on. */
  delay: number
  close(): Promise<void>
}

export interface Endpoint {
  readonly host: string
  readonly port: number
}

/** Listens at `near` for connections to `far`. */
export async function startSlowLink(near: Endpoint, far: Endpoint): Promise<SlowLink> {
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect({ ...far })
    let lastDue = 0
    client.pipe(upstream)
    upstream.on('data', (chunk: Buffer) => {
      // The delay may change, and the order of the bytes must not.
      const now = performance.now()
      lastDue = Math.max(lastDue, now + link.delay)
      setTimeout(() => client.write(chunk), lastDue - now)
    })
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.setNoDelay(true)
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  })
  server.listen(near.port, near.host)
  await once(server, 'listening')
  const link: SlowLink = {
    delay: 0,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return link
}
