/** The client of RabbitMQ's management API against a server that a test commands: TLS, refusals and delays. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import type { IncomingMessage, RequestListener } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import {
  importDefinitions,
  type Management,
  removeUser,
} from '../../coordinator/fleet/broker-users/management.ts'
import { HowdahError } from '../../messages/errors.ts'

describe('the management API', () => {
  let directory: string
  let ca: Buffer
  let server: https.Server
  let management: Management
  let answer: RequestListener
  let requests: { method: string | undefined; url: string | undefined; auth: string; body: string }[]

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-management-'))
    const identities = [{ kind: 'broker', name: 'rabbit-1', addresses: ['127.0.0.1'] }] as const
    const [paths] = (await ensureCertificates(directory, { identities })) as [CertificatePaths]
    ca = await readFile(paths.ca)
    const tls = { cert: await readFile(paths.cert), key: await readFile(paths.key) }
    server = https.createServer(
      tls,
      (request, response) => void record(request).then(() => answer(request, response)),
    )
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    management = { url: `https://127.0.0.1:${port}`, user: 'howdah-management', password: 'sésame', ca }
  })

  beforeEach(() => {
    requests = []
    answer = (_, response) => response.writeHead(204).end()
  })

  after(async () => {
    server.closeAllConnections()
    server.close()
    await rm(directory, { recursive: true })
  })

  async function record(request: IncomingMessage): Promise<void> {
    const { method, url, headers } = request
    const auth = Buffer.from(headers.authorization?.split(' ')[1] ?? '', 'base64').toString()
    requests.push({ method, url, auth, body: await text(request) })
  }

  const status = (code: number, reason = '') => {
    answer = (_, response) => response.writeHead(code).end(reason)
  }

  async function failure(work: Promise<void>): Promise<HowdahError> {
    const error = await work.then(
      () => undefined,
      (failed: unknown) => failed,
    )
    expect(error).to.be.instanceOf(HowdahError)
    expect((error as Error).message).not.to.include('sésame')
    return error as HowdahError
  }

  it('is used over TLS with the authority of the broker, as the user of the configuration', async () => {
    await importDefinitions(management, { users: [] })
    await removeUser(management, 'howdah-target-db-7')
    expect(requests).to.deep.equal([
      { method: 'POST', url: '/api/definitions', auth: 'howdah-management:sésame', body: '{"users":[]}' },
      { method: 'DELETE', url: '/api/users/howdah-target-db-7', auth: 'howdah-management:sésame', body: '' },
    ])
  })

  it('is not used when its certificate is of another authority', async () => {
    const { code, message } = await failure(removeUser({ ...management, ca: undefined }, 'a'))
    expect(code).to.equal('broker_unavailable')
    expect(message).to.include('certificate')
    expect(requests).to.deep.equal([])
  })

  it('finds nothing wrong with a user that is not there any more', async () => {
    status(404)
    await removeUser(management, 'a')
  })

  it('says that its user lacks a tag', async () => {
    status(401, '{"reason":"not administrator"}')
    const { code, message } = await failure(importDefinitions(management, {}))
    expect(code).to.equal('unauthorized')
    expect(message).to.include('tag administrator')
  })

  it('is tried again later when it has an error of its own, and when it does not answer', async () => {
    status(503, 'starting')
    const own = await failure(importDefinitions(management, {}))
    answer = () => {}
    const silent = await failure(importDefinitions({ ...management, deadlineMs: 200 }, {}))
    for (const { code, retryable } of [own, silent]) {
      expect(code).to.equal('broker_unavailable')
      expect(retryable).to.equal(true)
    }
  })

  it('is not used again when it refuses what it is sent', async () => {
    status(400, 'bad_request')
    const { code, retryable } = await failure(importDefinitions(management, {}))
    expect([code, retryable]).to.deep.equal(['configuration', false])
  })
})
