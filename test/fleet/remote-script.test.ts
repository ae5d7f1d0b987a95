/** Scripts on a host over SSH, by a server in this process that decides what arrives together. */
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import ssh2, { type ServerChannel } from 'ssh2'
import { rootShell } from '../../coordinator/fleet/ssh/elevation.ts'
import { createSecrets } from '../../coordinator/fleet/ssh/secrets.ts'
import { expectError } from './expect-error.ts'
import { makeOperator, type Operator } from './ssh-operator.ts'

const { signal } = new AbortController()

describe('A script over SSH', () => {
  let operator: Operator
  let server: FakeServer

  before(async () => {
    operator = await makeOperator()
    await operator.writeSsh('config', 'StrictHostKeyChecking accept-new\n')
    server = await startServer((command, channel) => {
      if (command.includes('sudo '))
        return end(channel, { stderr: 'sudo: a password is required\n', status: 1 })
      const mark = /echo (\S+) >&2/.exec(command)?.[1]
      channel.stderr.write(`${mark}\n`)
      channel.once('data', () => end(channel, { stdout: '1000\nsudo\n', status: 0 }))
    })
  })

  after(async () => {
    await operator?.remove()
    await server?.close()
  })

  it('says what sudo said when that, its status and the end arrive with the start', async () => {
    const connection = await operator.connect(`ops@127.0.0.1:${server.port}`)
    const options = { become: undefined, secrets: createSecrets(undefined), note: () => undefined, signal }
    const root = await rootShell(connection, options)
    await expectError(root.run(':', { signal, deadlineMs: 5000 }), 'unauthorized', 'it asks for a password')
  })
})

interface FakeServer {
  readonly port: number
  close(): Promise<void>
}

/** Lets everybody in. What one command answers at once arrives in one packet, with the word that it was begun. */
async function startServer(run: (command: string, channel: ServerChannel) => void): Promise<FakeServer> {
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'pkcs1', format: 'pem' },
  })
  const sockets = new Set<Socket>()
  const server = new ssh2.Server({ hostKeys: [privateKey] })
  const listener = createServer((socket) => {
    sockets.add(socket)
    server.injectSocket(socket)
  }).listen(0, '127.0.0.1')
  server.on('connection', (client) => {
    client.on('error', () => undefined)
    client.on('authentication', (context) => context.accept())
    client.on('session', (accept) => {
      accept().on('exec', (acceptExec, _reject, { command }) => {
        for (const socket of sockets) socket.cork()
        run(command, acceptExec())
        setImmediate(() => {
          for (const socket of sockets) socket.uncork()
        })
      })
    })
  })
  await once(listener, 'listening')
  return {
    port: (listener.address() as AddressInfo).port,
    async close() {
      for (const socket of sockets) socket.destroy()
      listener.close()
      await once(listener, 'close')
    },
  }
}

function end(
  channel: ServerChannel,
  said: { readonly stdout?: string; readonly stderr?: string; readonly status: number },
): void {
  channel.write(said.stdout ?? '')
  channel.stderr.write(said.stderr ?? '')
  channel.exit(said.status)
  channel.close()
}
