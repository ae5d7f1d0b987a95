/** The certificate files of an installation: what is in them, and when they are made again. */
import { X509Certificate } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import type { Identity } from '../../coordinator/fleet/authority/identity.ts'
import { expectFailure } from './fixture.ts'

const DAY_MS = 86_400_000
const mount: Identity = {
  kind: 'mount',
  name: 'vault',
  addresses: ['10.0.0.5', '::1', 'vault.example'],
}
const target: Identity = { kind: 'target', name: 'replica', addresses: [] }
const identities = [mount, target]

describe('certificates', function () {
  this.timeout(20_000)
  let directory = ''
  beforeEach(async () => {
    directory = join(await mkdtemp(join(tmpdir(), 'howdah-certificates-')), 'tls')
  })
  afterEach(() => rm(join(directory, '..'), { recursive: true }))

  const read = async (file: string) => new X509Certificate(await readFile(join(directory, file)))
  const texts = async () =>
    Object.fromEntries(
      await Promise.all(
        (await readdir(directory)).map(async (file) => [file, await readFile(join(directory, file), 'utf8')]),
      ),
    ) as Record<string, string>

  it('are made for each agent, with keys that only their owner reads', async () => {
    const paths = await ensureCertificates(directory, { identities })
    expect(paths[0]).to.deep.equal({
      ca: join(directory, 'ca.pem'),
      cert: join(directory, 'mount-vault.pem'),
      key: join(directory, 'mount-vault.key'),
    })
    expect((await readdir(directory)).sort()).to.deep.equal([
      'ca.key',
      'ca.pem',
      'mount-vault.key',
      'mount-vault.pem',
      'target-replica.key',
      'target-replica.pem',
    ])
    for (const file of await readdir(directory)) {
      const { mode } = await stat(join(directory, file))
      expect(mode & 0o777, file).to.equal(file.endsWith('.key') ? 0o600 : 0o644)
    }
    expect((await stat(directory)).mode & 0o777).to.equal(0o700)
  })

  it('carry name, addresses and what they are for', async () => {
    await ensureCertificates(directory, { identities })
    const ca = await read('ca.pem')
    expect(ca.ca).to.equal(true)
    const server = await read('mount-vault.pem')
    expect(server.verify(ca.publicKey)).to.equal(true)
    expect(server.subject).to.equal('CN=howdah-mount-vault')
    expect(server.checkHost('vault.mount.howdah')).to.equal('vault.mount.howdah')
    expect(server.checkHost('vault.example')).to.equal('vault.example')
    expect(server.checkIP('10.0.0.5')).to.equal('10.0.0.5')
    expect(server.checkIP('::1')).to.not.equal(undefined)
    expect(server.keyUsage).to.deep.equal(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
    const client = await read('target-replica.pem')
    expect(client.subject).to.equal('CN=howdah-target-replica')
    expect(client.keyUsage).to.deep.equal(['1.3.6.1.5.5.7.3.2'])
  })

  it('stay as they are while they are good', async () => {
    await ensureCertificates(directory, { identities })
    const before = await texts()
    await ensureCertificates(directory, { identities: [...identities].reverse() })
    expect(await texts()).to.deep.equal(before)
  })

  it('are made again when the addresses change, and no other with them', async () => {
    await ensureCertificates(directory, { identities })
    const before = await texts()
    await ensureCertificates(directory, { identities: [{ ...mount, addresses: ['10.0.0.6'] }, target] })
    const after = await texts()
    expect(Object.keys(after).filter((file) => after[file] !== before[file])).to.have.members([
      'mount-vault.pem',
      'mount-vault.key',
    ])
    expect((await read('mount-vault.pem')).checkIP('10.0.0.5')).to.equal(undefined)
  })

  it('are made again within 30 days of their end', async () => {
    await ensureCertificates(directory, { identities })
    const first = await texts()
    const end = new Date((await read('target-replica.pem')).validTo).getTime()
    await ensureCertificates(directory, { identities, now: () => new Date(end - 31 * DAY_MS) })
    expect(await texts()).to.deep.equal(first)
    await ensureCertificates(directory, { identities, now: () => new Date(end - 29 * DAY_MS) })
    const second = await texts()
    expect(second['target-replica.pem']).to.not.equal(first['target-replica.pem'])
    expect(second['ca.pem']).to.equal(first['ca.pem'])
  })

  describe('of an authority that others trust', () => {
    const endOf = async (file: string) => (await read(file)).validToDate.getTime()

    it('end no later than it, and are kept until then, with a warning in its last 180 days', async () => {
      await ensureCertificates(directory, { identities })
      const { 'ca.pem': ca } = await texts()
      const end = await endOf('ca.pem')
      const warnings: string[] = []
      const ensureAt = (time: number) =>
        ensureCertificates(directory, {
          identities,
          now: () => new Date(time),
          warn: (text) => warnings.push(text),
        })
      await ensureAt(end - 181 * DAY_MS)
      expect(warnings).to.deep.equal([])
      expect(await endOf('mount-vault.pem')).to.equal(end)
      const last = await texts()
      expect(last['ca.pem']).to.equal(ca)
      await ensureAt(end - DAY_MS)
      expect(await texts()).to.deep.equal(last)
      expect(warnings).to.have.length(1)
      expect(warnings[0]).to.include(new Date(end).toISOString()).and.to.include('docs/fleet.md')
    })

    it('are not made past its end, and it is not replaced', async () => {
      await ensureCertificates(directory, { identities })
      const before = await texts()
      const end = await endOf('ca.pem')
      const late = ensureCertificates(directory, { identities, now: () => new Date(end + 1) })
      const { message } = await expectFailure(late, 'configuration')
      expect(message)
        .to.include(`expired at ${new Date(end).toISOString()}`)
        .and.to.include('docs/fleet.md')
      expect(await texts()).to.deep.equal(before)
    })

    it('are not made while its certificate is damaged or missing, and its key stays', async () => {
      await ensureCertificates(directory, { identities })
      const { 'ca.key': key } = await texts()
      await writeFile(join(directory, 'ca.pem'), 'not a certificate')
      const damaged = await expectFailure(ensureCertificates(directory, { identities }), 'configuration')
      expect(damaged.message).to.include('ca.pem is not a certificate')
      await rm(join(directory, 'ca.pem'))
      const missing = await expectFailure(ensureCertificates(directory, { identities }), 'configuration')
      expect(missing.message).to.include('ca.pem is missing')
      expect((await texts())['ca.key']).to.equal(key)
    })
  })

  it('are all made again, with their authority, when nobody else trusts it and it ends or is damaged', async () => {
    const isPrivate = true
    await ensureCertificates(directory, { identities, isPrivate })
    const first = await texts()
    const end = (await read('ca.pem')).validToDate.getTime()
    await ensureCertificates(directory, { identities, isPrivate, now: () => new Date(end - DAY_MS) })
    const second = await texts()
    expect(second['ca.pem']).to.not.equal(first['ca.pem'])
    expect((await read('mount-vault.pem')).verify((await read('ca.pem')).publicKey)).to.equal(true)
    await rm(join(directory, 'ca.pem'))
    await ensureCertificates(directory, { identities, isPrivate })
    expect((await read('mount-vault.pem')).verify((await read('ca.pem')).publicKey)).to.equal(true)
  })

  it('are made again when key and certificate do not belong together, as after a crash between the two', async () => {
    await ensureCertificates(directory, { identities })
    const { 'target-replica.key': stray = '' } = await texts()
    await writeFile(join(directory, 'mount-vault.key'), stray)
    await ensureCertificates(directory, { identities })
    expect((await texts())['mount-vault.key']).to.not.equal(stray)
  })

  it("need the authority's key only when something must be signed", async () => {
    await ensureCertificates(directory, { identities })
    await rm(join(directory, 'ca.key'))
    await ensureCertificates(directory, { identities })
    const more = [...identities, { kind: 'target', name: 'second', addresses: [] } as const]
    const error = await expectFailure(ensureCertificates(directory, { identities: more }), 'configuration')
    expect(error.message).to.contain('ca.key')
  })
})
