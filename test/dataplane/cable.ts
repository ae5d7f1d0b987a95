/** Owns a TCP proxy in front of a data plane server that behaves like a cable: cut, it drops bytes and closes nothing. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { DataPlaneServer } from '../../agents/dataplane/server/server.ts'

export type Addressed = Pick<DataPlaneServer, 'address'>

export interface Cable extends Addressed {
  /** Connections made so far. */
  readonly connections: number
  /** Bytes that came from the server. */
  readonly bytesBack: number
  cut(): void
  /** New connections work again; those from before stay silent. */
  mend(): void
  close(): Promise<void>
}

export async function makeCable({ address }: Addressed): Promise<Cable> {
  const sockets = new Set<Socket>()
  const silent = new WeakSet<Socket>()
  let connections = 0
  let bytesBack = 0
  let whole = true

  function forward(from: Socket, to: Socket, onBytes: (count: number) => void): void {
    sockets.add(from)
    from.on('error', () => {})
    from.on('close', () => to.destroy())
    from.on('data', (chunk: Buffer) => {
      onBytes(chunk.length)
      if (whole && !silent.has(from)) to.write(chunk)
    })
  }

  const listener = createServer((near) => {
    connections += 1
    const far = connect(address.port, address.host)
    forward(near, far, () => {})
    forward(far, near, (count) => {
      bytesBack += count
    })
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))

  return {
    address: { host: '127.0.0.1', port: (listener.address() as AddressInfo).port },
    get connections() {
      return connections
    },
    get bytesBack() {
      return bytesBack
    },
    cut() {
      whole = false
      for (const socket of sockets) silent.add(socket)
    },
    mend() {
      whole = true
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => listener.close(() => resolve()))
    },
  }
}
