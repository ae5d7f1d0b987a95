/** Enrolment against a real broker with TLS: an agent gets a certificate and a user in one act, and loses both in another. */
import 'reflect-metadata'
import {
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509'
import { expect } from 'chai'
import { pino } from 'pino'
import { type RunningAgent, runAgent } from '../../agents/runtime/agent.ts'
import { openJournal } from '../../agents/runtime/journal.ts'
import { makeCertificateRequest, makePrivateKey } from '../../config/certificate-request.ts'
import type { CertificatePaths } from '../../coordinator/fleet/authority/certificates.ts'
import type { Bus } from '../../messages/bus.ts'
import type { RevocationList } from '../../messages/enrolment.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { AgentView } from '../../messages/values.ts'
import { type EnrolledFleet, startEnrolledFleet } from '../support/enrolled-fleet.ts'
import { poll } from '../support/poll.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const TARGET = { kind: 'target', name: 'db-7' } as const
const MOUNT = { kind: 'mount', name: 'backup-1' } as const

describe('enrolment', function () {
  this.timeout(60_000)
  let fleet: EnrolledFleet
  const agents: RunningAgent[] = []

  before(async function () {
    this.timeout(180_000)
    fleet = await startEnrolledFleet()
  })

  after(async () => {
    for (const agent of agents) await agent.close()
    await fleet?.remove()
  })

  async function refusal(work: Promise<unknown>): Promise<HowdahError> {
    const error = await work.then(
      () => undefined,
      (failed: unknown) => failed,
    )
    expect(error).to.be.instanceOf(HowdahError)
    return error as HowdahError
  }

  async function refused(reply: Promise<{ accepted: boolean; error?: { code: string; message: string } }>) {
    const { accepted, error } = await reply
    expect(accepted).to.equal(false)
    return error as { code: string; message: string }
  }

  /** An agent whose steps do nothing, which says which revocations it knows. */
  async function start(
    address: typeof TARGET | typeof MOUNT,
    paths: CertificatePaths,
    lists: RevocationList[] = [],
  ): Promise<Bus> {
    const bus = await fleet.connect(paths, 'agent')
    const agent = await runAgent({
      ...{ address, bus, logger, steps: {}, queries: {}, heartbeatMs: 200 },
      journal: openJournal(':memory:'),
      describe: () => (address.kind === 'mount' ? { revocations: lists.at(-1)?.version ?? 0 } : {}),
      onRevocations: (list) => lists.push(list),
    })
    agents.push(agent)
    return bus
  }

  async function view({ kind, name }: typeof TARGET | typeof MOUNT): Promise<AgentView | undefined> {
    const reply = await fleet.operator.request('agent.list', {})
    return reply.accepted ? reply.agents.find((one) => one.kind === kind && one.name === name) : undefined
  }

  it('gives an agent a certificate of its name and a user that it logs in as, without a password', async () => {
    const paths = await fleet.enrol(TARGET)
    const certificate = new X509Certificate(await readFile(paths.cert))
    const ca = new X509Certificate(await readFile(paths.ca))
    expect(certificate.subject).to.equal('CN=howdah-target-db-7')
    expect(certificate.verify(ca.publicKey)).to.equal(true)
    expect(certificate.keyUsage).to.deep.equal(['1.3.6.1.5.5.7.3.2'])
    const days = (certificate.validToDate.getTime() - Date.now()) / 86_400_000
    expect(days).to.be.within(89.9, 90)
    await start(TARGET, paths)
    await poll(async () => (await view(TARGET))?.online || undefined, {
      deadlineMs: 10_000,
      failure: () => 'the agent is not online',
    })
  })

  it('gives the same answer to the same command, and another certificate to another one', async () => {
    const { csr } = await fleet.request({ kind: 'target', name: 'db-1' })
    const body = { kind: 'target', name: 'db-1', csr } as const
    const once = await fleet.operator.request('agent.certify', body, { messageId: 'again' })
    expect(once.accepted).to.equal(true)
    expect(await fleet.operator.request('agent.certify', body, { messageId: 'again' })).to.deep.equal(once)
    expect(await fleet.operator.request('agent.certify', body)).to.not.deep.equal(once)
  })

  describe('refuses a request', () => {
    it('that is none', async () => {
      const { code, message } = await refused(fleet.certify(TARGET, 'no request'))
      expect(code).to.equal('unauthorized')
      expect(message).to.include('PKCS #10')
    })

    it('for another name than that of the agent', async () => {
      const { csr } = await fleet.request({ kind: 'target', name: 'db-8' })
      const { message } = await refused(fleet.certify(TARGET, csr))
      expect(message).to.include('must be CN=howdah-target-db-7')
    })

    it('for the name of an agent of another kind', async () => {
      const { csr } = await fleet.request({ kind: 'mount', name: 'db-7' })
      expect((await refused(fleet.certify(TARGET, csr))).code).to.equal('unauthorized')
    })

    it('for names that are not among the addresses', async () => {
      const csr = await makeCertificateRequest({
        key: makePrivateKey(),
        commonName: 'howdah-mount-backup-1',
        names: ['10.0.0.5', 'other.mount.howdah'],
      })
      const { message } = await refused(fleet.certify(MOUNT, csr, { addresses: ['10.0.0.5'] }))
      expect(message).to.include('other.mount.howdah')
    })

    it('that is larger than any honest one, as with ten thousand names', async () => {
      const error = await refusal(fleet.certify(TARGET, 'A'.repeat(20_000)))
      expect(error.code).to.equal('invalid_message')
      const addresses = Array.from({ length: 10_000 }, (_, index) => `h${index}`)
      const { csr } = await fleet.request(MOUNT)
      expect((await refusal(fleet.certify(MOUNT, csr, { addresses }))).code).to.equal('invalid_message')
    })

    for (const [what, key] of [
      ['with a key that is too short', () => rsa(1024)],
      ['with a key that is huge', () => rsa(8192)],
      ['with a key of an unusual curve', () => ec('P-521')],
    ] as const) {
      it(what, async () => {
        const { code, message } = await refused(fleet.certify(TARGET, await key()))
        expect(code).to.equal('unauthorized')
        expect(message).to.include('it must be EC of P-256 or P-384, or RSA of 2048 to 4096 bits')
      })
    }

    it('whose signature is of another key', async () => {
      const { csr } = await fleet.request(TARGET)
      const der = Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ''), 'base64')
      der[der.length - 5] = (der.at(-5) ?? 0) ^ 0xff
      const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`
      expect((await refused(fleet.certify(TARGET, forged))).message).to.include('signature')
    })
  })

  describe('is for operators', () => {
    it('RabbitMQ lets no other client send its commands', async () => {
      const client = await fleet.connect(await fleet.issue({ kind: 'client', name: 'ops' }), 'client')
      expect(await client.request('agent.list', {})).to.have.property('accepted', true)
      const { csr } = await fleet.request(TARGET)
      for (const sent of [
        client.request('agent.certify', { ...TARGET, csr }),
        client.request('agent.revoke', TARGET),
      ]) {
        expect((await refusal(sent)).message).to.include('ACCESS_REFUSED')
      }
    })
  })

  describe('a revocation', () => {
    it('ends the connections of the agent, reaches the mount agents, and holds for all certificates of before', async () => {
      const lists: RevocationList[] = []
      await start(MOUNT, await fleet.enrol(MOUNT), lists)
      await poll(async () => (await view(MOUNT))?.revocations === 0 || undefined, {
        deadlineMs: 10_000,
        failure: () => 'the mount agent is not online',
      })
      const stolen = await fleet.enrol({ kind: 'target', name: 'db-9' })
      const bus = await fleet.connect(stolen, 'agent')
      expect(bus.connectedSince).to.be.a('number')
      const reply = await fleet.operator.request('agent.revoke', { kind: 'target', name: 'db-9' })
      expect(reply).to.deep.equal({ accepted: true, sessions: [] })
      await poll(async () => bus.connectedSince === undefined || undefined, {
        deadlineMs: 10_000,
        failure: () => 'the revoked agent is still connected',
      })
      await poll(async () => lists.at(-1)?.version || undefined, {
        deadlineMs: 10_000,
        failure: () => 'the mount agent does not know of the revocation',
      })
      expect(lists.at(-1)).to.deep.equal({
        version: 1,
        revoked: [{ user: 'howdah-target-db-9', before: 2 }],
      })
      expect((await refusal(fleet.connect(stolen, 'agent', 2_000))).message).to.include('ACCESS-REFUSED')
    })

    it('stays, until an operator enrols the agent again, who is another user then', async () => {
      const agent = { kind: 'target', name: 'db-10' } as const
      const stolen = await fleet.enrol(agent)
      expect(await fleet.operator.request('agent.revoke', agent)).to.have.property('accepted', true)
      const { csr } = await fleet.request(agent)
      expect((await refused(fleet.certify(agent, csr))).code).to.equal('certificate_revoked')
      const paths = await fleet.enrol(agent, { again: true })
      expect(new X509Certificate(await readFile(paths.cert)).subject).to.equal('CN=howdah-target-db-10.2')
      const bus = await fleet.connect(paths, 'agent')
      expect(bus.connectedSince).to.be.a('number')
      expect((await refusal(fleet.connect(stolen, 'agent', 2_000))).message).to.include('ACCESS-REFUSED')
    })

    it('is finished when the management API is back, and mount agents refuse the certificate until then, too', async () => {
      const agent = { kind: 'target', name: 'db-11' } as const
      const bus = await fleet.connect(await fleet.enrol(agent), 'agent')
      const away = { managementPasswordFile: join(fleet.directory, 'away.password') }
      await fleet.restartCoordinator(away)
      const { code, message } = await refused(fleet.operator.request('agent.revoke', agent))
      expect(code).to.equal('configuration')
      expect(message).to.include('is revoked').and.to.include('tried again every few seconds')
      expect(bus.connectedSince).to.be.a('number')
      const { csr } = await fleet.request(agent)
      expect((await refused(fleet.certify(agent, csr))).code).to.equal('certificate_revoked')
      await copyFile(fleet.managementPassword, away.managementPasswordFile)
      await poll(async () => bus.connectedSince === undefined || undefined, {
        deadlineMs: 20_000,
        failure: () => 'the revoked agent is still connected',
      })
    })
  })

  it('that fails at the broker leaves nothing that works, and the same command finishes it', async () => {
    const agent = { kind: 'target', name: 'db-12' } as const
    const away = join(fleet.directory, 'not-there.password')
    await fleet.restartCoordinator({ managementPasswordFile: away })
    const { paths, csr } = await fleet.request(agent)
    const sent = () => fleet.operator.request('agent.certify', { ...agent, csr }, { messageId: 'db-12' })
    expect((await refused(sent())).code).to.equal('configuration')
    await copyFile(fleet.managementPassword, away)
    await poll(async () => (await sent()).accepted || undefined, {
      deadlineMs: 10_000,
      failure: () => 'the command does not succeed',
    })
    const reply = await sent()
    if (!reply.accepted) throw new Error(reply.error.message)
    await writeFile(paths.ca, reply.ca)
    await writeFile(paths.cert, reply.certificate)
    expect((await fleet.connect(paths, 'agent')).connectedSince).to.be.a('number')
  })
})

/** Of an RSA key of that size; its modulus is made up, since the size is all that counts. */
function rsa(bits: number): Promise<string> {
  const modulus = randomBytes(bits / 8)
  modulus[0] = 0xff
  modulus[modulus.length - 1] = 0xff
  const jwk = { kty: 'RSA', n: modulus.toString('base64url'), e: 'AQAB' }
  return requestOf(createPublicKey({ key: jwk, format: 'jwk' }), {
    ...{ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    namedCurve: '',
  })
}

function ec(namedCurve: string): Promise<string> {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve })
  return requestOf(publicKey, { name: 'ECDSA', hash: 'SHA-512', namedCurve })
}

/** A request for a key that Howdah would not make. */
async function requestOf(publicKey: KeyObject, algorithm: webcrypto.EcKeyImportParams & { hash: string }) {
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const signingAlgorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
  const signer = await webcrypto.subtle.generateKey(signingAlgorithm, false, ['sign', 'verify'])
  const keys = {
    privateKey: signer.privateKey,
    publicKey: await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
  }
  const name = [{ CN: ['howdah-target-db-7'] }]
  const request = await Pkcs10CertificateRequestGenerator.create({ name, keys, signingAlgorithm }, webcrypto)
  return request.toString('pem')
}
