/** Owns a server on loopback that takes connections as PostgreSQL does, and refuses each of them. */
import { once } from 'node:events'
import { createServer } from 'node:net'

export type Refusal = { readonly sqlState: string; readonly message: string } | 'hangs up'

export const WRONG_PASSWORD: Exclude<Refusal, string> = {
  sqlState: '28P01',
  message: 'password authentication failed for user "howdah"',
}

export interface RefusingPostgres {
  readonly port: number
  close(): void
}

/** @param refusal called for each connection */
export async function refuseAsPostgres(refusal: () => Refusal): Promise<RefusingPostgres> {
  const server = createServer((socket) => {
    const given = refusal()
    socket.on('error', () => {})
    socket.once('data', () => {
      if (given === 'hangs up') socket.destroy()
      else socket.end(errorResponse(given))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { port: (server.address() as { port: number }).port, close: () => server.close() }
}

/** ErrorResponse of PostgreSQL's frontend/backend protocol. */
function errorResponse({ sqlState, message }: Exclude<Refusal, string>): Buffer {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${sqlState}\0M${message}\0\0`)
  const header = Buffer.from('E0000')
  header.writeInt32BE(fields.length + 4, 1)
  return Buffer.concat([header, fields])
}
