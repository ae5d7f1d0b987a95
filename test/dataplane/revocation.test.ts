/** The data plane's server and certificates that change while it runs: revoked ones, renewed ones, those of earlier releases. */
import { X509Certificate } from 'node:crypto'
import { expect } from 'chai'
import type { TlsMaterial } from '../../agents/dataplane/server/server.ts'
import {
  type IssuedCertificate,
  issueCertificate,
  makeAuthority,
} from '../../coordinator/fleet/authority/x509.ts'
import { expectFailure, useDataPlane } from './fixture.ts'
import { createMemorySource } from './memory-source.ts'

const TARGET = 'howdah-target-replica'
/** Its first enrolment. */
const REVOKED = new Map([[TARGET, 2]])
const HOUR_MS = 3_600_000

describe('certificates on the data plane', () => {
  const plane = useDataPlane()
  const notBefore = new Date(Date.now() - HOUR_MS)
  const notAfter = new Date(Date.now() + HOUR_MS)
  let authority: IssuedCertificate

  before(async () => {
    authority = await makeAuthority(notBefore, notAfter)
  })

  async function issue(commonName: string, names: string[] = []): Promise<TlsMaterial> {
    const contents = {
      commonName,
      names,
      usages: ['server', 'client'],
      notBefore,
      notAfter,
    } as const
    const { certificate, key } = await issueCertificate(authority, contents)
    return { ca: authority.certificate, cert: certificate, key }
  }
  const mountCertificate = () => issue('howdah-mount-vault', ['vault.mount.howdah'])

  it('close the connections of a target when they are revoked, and are refused from then on', async () => {
    const server = await plane.serve(createMemorySource())
    const revoked = plane.connect(server)
    await revoked.read(1, 0, 10)
    const other = await plane.connectRaw(server, plane.certificates.otherTarget)
    server.revoke(REVOKED)
    const error = await expectFailure(plane.connect(server).read(1, 0, 10), 'unauthorized')
    expect(error.message).to.contain('replica was revoked')
    await expectFailure(revoked.read(1, 0, 10), 'unauthorized')
    expect(other.destroyed, 'the connection of another target').to.equal(false)
  })

  it('are refused by a server that knew of their revocation when it started', async () => {
    const server = await plane.serve(createMemorySource(), { revocations: REVOKED })
    await expectFailure(plane.connect(server).read(1, 0, 10), 'unauthorized')
  })

  it('of the enrolment that counts are accepted, those of an earlier one are not', async () => {
    const server = await plane.serve(createMemorySource(), {
      tls: await mountCertificate(),
      revocations: new Map([[TARGET, 3]]),
    })
    const connect = async (user: string) => plane.connect(server, { tls: await issue(user) })
    for (const earlier of [TARGET, `${TARGET}.2`]) {
      await expectFailure((await connect(earlier)).read(1, 0, 10), 'unauthorized')
    }
    expect(await (await connect(`${TARGET}.3`)).read(1, 0, 10)).to.have.length(10)
  })

  it('that name an agent without its kind are refused with the name that they must have', async () => {
    const server = await plane.serve(createMemorySource(), { tls: await mountCertificate() })
    const client = plane.connect(server, { tls: await issue('replica') })
    const error = await expectFailure(client.read(1, 0, 10), 'unauthorized')
    expect(error.message).to.contain(`that of replica; it must be that of ${TARGET}`)
  })

  it('that a server renews count for new connections, and those that are there stay', async () => {
    const server = await plane.serve(createMemorySource(), { tls: await mountCertificate() })
    const target = await issue(TARGET)
    const options = { ...target, servername: 'vault.mount.howdah' }
    const before = await plane.connectRaw(server, options)
    const renewed = await mountCertificate()
    server.renew(renewed)
    const after = await plane.connectRaw(server, options)
    const { fingerprint256 } = new X509Certificate(renewed.cert)
    expect(after.getPeerCertificate().fingerprint256).to.equal(fingerprint256)
    expect(before.getPeerCertificate().fingerprint256).to.not.equal(fingerprint256)
    expect(before.destroyed).to.equal(false)
  })
})
