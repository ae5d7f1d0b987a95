/** How an agent keeps its certificate, with a coordinator that a test commands. */
import { X509Certificate } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { keepCertificate, type OwnCertificate } from '../../agents/runtime/own-certificate.ts'
import { makeCertificateRequest, makePrivateKey } from '../../config/certificate-request.ts'
import { type Authority, openAuthority } from '../../coordinator/fleet/authority/authority.ts'
import { ensureAuthority } from '../../coordinator/fleet/authority/certificates.ts'
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { poll } from '../support/poll.ts'

const ADDRESS = { kind: 'target', name: 'db-7' } as const
const DAY_MS = 86_400_000
const LIFETIME_MS = 90 * DAY_MS

describe('the certificate of an agent', () => {
  let directory: string
  let authority: Authority
  let files: { ca: string; certificate: string; key: string }
  let key: string
  let kept: OwnCertificate | undefined
  /** What the clock of the agent says, beyond the real time. */
  let later: number
  let log: { level: number; msg: string; reason?: string }[]
  let asked: number
  let changes: number
  /** How far the clock of the authority is behind that of the agent. */
  let slow: number
  /** What the coordinator answers. */
  let answer: (csr: string) => Promise<object>

  beforeEach(async () => {
    ;[later, slow, asked, changes, log] = [0, 0, 0, 0, []]
    directory = await mkdtemp(join(tmpdir(), 'howdah-own-certificate-'))
    const authorityDirectory = join(directory, 'authority')
    await ensureAuthority(authorityDirectory)
    authority = await openAuthority(authorityDirectory, () => Date.now() + Math.max(0, later - slow))
    const file = (name: string) => join(directory, name)
    files = { ca: file('ca.pem'), certificate: file('a.pem'), key: file('a.key') }
    key = makePrivateKey()
    await writeFile(files.ca, authority.certificate)
    await writeFile(files.key, key)
    await writeFile(files.certificate, await sign(await request(), LIFETIME_MS))

    answer = async (csr) => ({
      ...{ accepted: true, ca: authority.certificate },
      certificate: await sign(csr, LIFETIME_MS),
    })
  })

  afterEach(async () => {
    kept?.close()
    kept = undefined
    await rm(directory, { recursive: true })
  })

  const request = (name = 'db-7') =>
    makeCertificateRequest({ key, commonName: `howdah-target-${name}`, names: [] })
  const sign = (csr: string, lifetimeMs: number, name = 'db-7') =>
    authority.certify(csr, { kind: 'target', name, addresses: [] }, lifetimeMs)
  const current = () => readFile(files.certificate, 'utf8')

  async function start(): Promise<OwnCertificate> {
    const bus = {
      askCoordinator: async (_address: object, _type: string, { csr }: { csr: string }) => {
        asked += 1
        return answer(csr)
      },
    } as unknown as Pick<Bus, 'askCoordinator'>
    const logger = pino(
      { level: 'debug' },
      { write: (line: string) => void log.push(JSON.parse(line) as (typeof log)[number]) },
    )
    kept = await keepCertificate({
      ...{ address: ADDRESS, files, bus, logger, lookMs: 20 },
      now: () => Date.now() + later,
      random: () => 0,
      onChange: () => {
        changes += 1
      },
    })
    return kept
  }

  const until = (what: string, condition: () => unknown) =>
    poll(async () => condition() || undefined, { deadlineMs: 10_000, failure: () => what })

  it('is renewed when a third of its time is left, with the same key, and not before', async () => {
    const before = await current()
    const certificate = await start()
    expect(certificate.view.user).to.equal('howdah-target-db-7')
    // It is valid from a day before it was issued.
    later = 59 * DAY_MS
    await until('it looked once', () => log.length >= 0)
    expect(asked).to.equal(0)
    later = 60 * DAY_MS
    await until('it is not renewed', () => changes === 1)
    const after = new X509Certificate(await current())
    expect(await current()).to.not.equal(before)
    expect(after.publicKey.equals(new X509Certificate(before).publicKey)).to.equal(true)
    expect(certificate.view.notAfter).to.equal(after.validToDate.toISOString())
    expect((await readdir(directory)).sort()).to.deep.equal(['a.key', 'a.pem', 'authority', 'ca.pem'])
  })

  it('is not renewed without end where the clock of this machine is far ahead', async () => {
    later = 80 * DAY_MS
    slow = 80 * DAY_MS
    await start()
    await until('it is not renewed', () => changes === 1)
    // Two more looks at the files, of which the second must find what the test changes.
    await writeFile(files.certificate, await sign(await request(), 2 * LIFETIME_MS))
    await until('the agent did not look again', () => changes === 2)
    expect(asked).to.equal(1)
  })

  it('is asked for again and again while the coordinator does not answer', async () => {
    answer = async () => {
      if (asked < 3) throw new HowdahError('timeout', 'the coordinator did not answer')
      return {
        accepted: true,
        ca: authority.certificate,
        certificate: await sign(await request(), LIFETIME_MS),
      }
    }
    later = 61 * DAY_MS
    await start()
    await until('it is not renewed', () => changes === 1)
    expect(asked).to.equal(3)
    expect(log.filter(({ level }) => level >= 40)).to.deep.equal([])
  })

  it('is warned of once a day from 14 days before it expires, with the reason and what to do', async () => {
    const error = { code: 'certificate_revoked', message: 'the agent was revoked', retryable: false }
    answer = async () => ({ accepted: false, error })
    later = 85 * DAY_MS
    await start()
    await until('it was not asked for twice', () => asked >= 2)
    const warnings = log.filter(({ level }) => level === 40)
    expect(warnings).to.have.length(1)
    expect(warnings[0]?.msg).to.match(/expires in 4 days and was not renewed.*howdah agent install/)
    expect(warnings[0]?.reason).to.equal('the agent was revoked')
    later = 91 * DAY_MS
    await until('there is no other warning', () => log.filter(({ level }) => level === 40).length >= 2)
    expect(log.findLast(({ level }) => level === 40)?.msg).to.include('has expired')
  })

  for (const [what, sent] of [
    ['for another agent', async () => sign(await request('db-8'), LIFETIME_MS, 'db-8')],
    [
      'for another key',
      async () => {
        const other = makePrivateKey()
        const csr = await makeCertificateRequest({ key: other, commonName: 'howdah-target-db-7', names: [] })
        return sign(csr, LIFETIME_MS)
      },
    ],
    [
      'of another authority',
      async () => {
        const other = join(directory, 'other')
        await ensureAuthority(other)
        const identity = { kind: 'target', name: 'db-7', addresses: [] } as const
        return (await openAuthority(other)).certify(await request(), identity, LIFETIME_MS)
      },
    ],
  ] as const) {
    it(`is kept when the coordinator sends one ${what}`, async () => {
      const before = await current()
      answer = async () => ({ accepted: true, ca: authority.certificate, certificate: await sent() })
      later = 80 * DAY_MS
      await start()
      await until('nothing was refused', () =>
        log.some(({ reason }) => reason?.includes('not for this agent')),
      )
      expect(await current()).to.equal(before)
      expect(changes).to.equal(0)
    })
  }

  it('is taken into use when somebody else put another one into the file', async () => {
    const certificate = await start()
    const renewed = await sign(await request(), 2 * LIFETIME_MS)
    await writeFile(files.certificate, renewed)
    await until('the change is not noticed', () => changes === 1)
    expect(certificate.view.notAfter).to.equal(new X509Certificate(renewed).validToDate.toISOString())
    expect(asked).to.equal(0)
  })

  it('is not renewed when it has a key of somebody else, and says so at the start', async () => {
    await writeFile(files.key, makePrivateKey())
    const error = await start().then(
      () => undefined,
      (failed: Error) => failed,
    )
    expect(error?.message).to.include('does not belong to the key')
  })
})
