/** Who logs in to a real broker by certificate: the name in it is the user, and there is no password. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { brokerAccess } from '../../config/tls.ts'
import type { PrivateBroker } from '../../coordinator/cli/broker.ts'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import { type BusRole, connectBus } from '../../messages/amqp-bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { startTestBroker } from '../support/rabbitmq.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

describe('the login by certificate', function () {
  this.timeout(60_000)
  let directory: string
  let broker: PrivateBroker
  let coordinator: CertificatePaths
  let unknown: CertificatePaths
  let stranger: CertificatePaths

  before(async function () {
    this.timeout(180_000)
    directory = await mkdtemp(join(tmpdir(), 'howdah-certificate-login-'))
    const tls = join(directory, 'tls')
    const identities = [
      { kind: 'broker', name: 'rabbit-1', addresses: ['127.0.0.1'] },
      { kind: 'coordinator', name: 'coordinator', addresses: [] },
      { kind: 'client', name: 'nobody', addresses: [] },
    ] as const
    const [server, ...clients] = await ensureCertificates(tls, { identities })
    ;[coordinator, unknown] = clients as [CertificatePaths, CertificatePaths]
    const other = join(directory, 'other')
    ;[stranger] = (await ensureCertificates(other, { identities: [identities[1]] })) as [CertificatePaths]
    broker = await startTestBroker({
      directory: join(directory, 'broker'),
      logger,
      management: true,
      ...(server && { tls: server }),
    })
    const user = { password_hash: '', hashing_algorithm: 'rabbit_password_hashing_sha256', tags: '' }
    await manage('PUT', 'users/howdah-coordinator', user)
    await manage('PUT', 'permissions/%2F/howdah-coordinator', { configure: '.*', write: '.*', read: '.*' })
  })

  after(async () => {
    await broker?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  async function manage(method: string, path: string, body: object): Promise<void> {
    const url = new URL(broker.managementUrl ?? '')
    const credentials = Buffer.from(`${url.username}:${url.password}`).toString('base64')
    const response = await fetch(`${url.origin}/api/${path}`, {
      method,
      headers: { authorization: `Basic ${credentials}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    expect(response.ok, await response.text()).to.equal(true)
  }

  async function connectAs(paths: CertificatePaths, url = broker.tlsUrl ?? '', role: BusRole = 'client') {
    const { ca } = coordinator
    const files = { ca, certificate: paths.cert, key: paths.key }
    return connectBus({
      ...brokerAccess({ urls: [url], ...files }),
      appId: 'test',
      role,
      logger,
      waitMs: 20_000,
    })
  }

  async function refusal(connecting: Promise<unknown>): Promise<HowdahError> {
    const error = await connecting.then(
      () => undefined,
      (failed: unknown) => failed,
    )
    expect(error).to.be.instanceOf(HowdahError)
    return error as HowdahError
  }

  it('is that of the user whom the certificate names, who signs its messages', async () => {
    const bus = await connectAs(coordinator, broker.tlsUrl, 'coordinator')
    try {
      const senders: (string | undefined)[] = []
      await bus.declareTopology()
      await bus.consumeQueries(async ({ userId }) => {
        senders.push(userId)
        return 'ack'
      })
      await bus.request('agent.list', {}, { timeoutMs: 500 }).catch(() => undefined)
      expect(senders).to.deep.equal(['howdah-coordinator'])
    } finally {
      await bus.close()
    }
  })

  it('of a user whom the broker does not know is refused with what to do', async () => {
    const { code, message } = await refusal(connectAs(unknown))
    expect(code).to.equal('configuration')
    expect(message).to.include('ACCESS-REFUSED').and.to.include('howdah-client-nobody')
  })

  it('with a certificate of another authority is refused, and the error says which certificate it must be', async () => {
    const { code, message } = await refusal(connectAs(stranger))
    expect(code).to.equal('configuration')
    expect(message).to.include('signed by the authority that the broker trusts')
  })

  it('is never by password, also with an empty one', async () => {
    const url = new URL(broker.tlsUrl ?? '')
    url.username = 'howdah-coordinator'
    const { code, message } = await refusal(connectAs(coordinator, url.href))
    expect(code).to.equal('configuration')
    expect(message).to.include('ACCESS-REFUSED')
  })
})
