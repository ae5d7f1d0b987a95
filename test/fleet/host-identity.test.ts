/** The identity of an agent on its host: key and request are made there, and only a certificate that fits is installed. */
import { execFileSync } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { expect } from 'chai'
import { hostPaths, type IdentityFiles, identityFiles } from '../../coordinator/fleet/host/host-paths.ts'
import {
  acceptCertificate,
  requestCertificate,
  type SignedIdentity,
} from '../../coordinator/fleet/host/identity.ts'
import { signRequest } from '../support/openssl-authority.ts'
import { scratchDirectory } from '../support/scratch.ts'

const OWNER = { uid: 0, gid: 0 }
const TARGET = { kind: 'target', name: 'db-7', addresses: [] } as const

describe('the identity of an agent on its host', () => {
  let scratch: string
  let files: IdentityFiles

  before(async () => {
    scratch = await scratchDirectory('howdah-identity-')
  })
  after(() => rmSync(scratch, { recursive: true }))
  beforeEach(() => {
    files = identityFiles(hostPaths(directory()), 'target')
  })

  const directory = () => mkdtempSync(path.join(scratch, 'host-'))

  /** Signs as an authority of its own would. */
  const sign = (csr: string) => signRequest(directory(), csr)

  it('is requested for a key that is made once, and is readable by the agent only', async () => {
    const csr = await requestCertificate(
      files,
      { kind: 'mount', name: 'backup-1', addresses: ['backup.example', '10.0.0.5'] },
      OWNER,
    )
    const key = readFileSync(files.key, 'utf8')
    expect(statSync(files.key).mode & 0o777).to.equal(0o600)
    const shown = execFileSync('openssl', ['req', '-verify', '-noout', '-text'], {
      input: csr,
      encoding: 'utf8',
      stdio: 'pipe',
    })
    expect(shown).to.match(/CN ?= ?howdah-mount-backup-1/)
    expect(shown).to.include('DNS:backup.example, IP Address:10.0.0.5')
    chmodSync(files.key, 0o644)
    await requestCertificate(files, { kind: 'mount', name: 'backup-1', addresses: [] }, OWNER)
    expect(readFileSync(files.key, 'utf8')).to.equal(key)
    expect(statSync(files.key).mode & 0o777).to.equal(0o600)
  })

  it('is installed once, and the same certificate again changes nothing', async () => {
    const signed = sign(await requestCertificate(files, TARGET, OWNER))
    expect(await acceptCertificate(files, 'target', signed, OWNER)).to.deep.equal([
      files.ca,
      files.certificate,
    ])
    expect(await acceptCertificate(files, 'target', signed, OWNER)).to.deep.equal([])
    expect(readFileSync(files.certificate, 'utf8')).to.equal(signed.certificate)
  })

  const refused: [string, (signed: SignedIdentity) => SignedIdentity | Promise<SignedIdentity>, string][] = [
    [
      'of another authority',
      (signed) => ({ ...signed, ca: sign(readFileSync(`${files.key}.csr`, 'utf8')).ca }),
      'did not sign it',
    ],
    [
      'for another key',
      async () => {
        const other = identityFiles(hostPaths(directory()), 'target')
        return sign(await requestCertificate(other, TARGET, OWNER))
      },
      'belongs to another key',
    ],
    [
      'for a mount agent',
      async () => sign(await requestCertificate(files, { ...TARGET, kind: 'mount' }, OWNER)),
      'not for a target agent',
    ],
    ['that expired', async (signed) => signed, 'it expired at'],
    [
      'that is no certificate',
      (signed) => ({ ...signed, certificate: 'nonsense' }),
      'is not a certificate in PEM',
    ],
  ]
  for (const [name, change, message] of refused) {
    it(`refuses a certificate ${name}, and writes nothing`, async () => {
      const csr = await requestCertificate(files, TARGET, OWNER)
      writeFileSync(`${files.key}.csr`, csr)
      const signed = await change(sign(csr))
      const now = name === 'that expired' ? new Date(Date.now() + 11 * 86_400_000) : new Date()
      const error = await acceptCertificate(files, 'target', signed, OWNER, now).then(
        () => undefined,
        (thrown: Error) => thrown,
      )
      expect(error?.message).to.include(message)
      expect(() => statSync(files.ca)).to.throw('ENOENT')
      expect(() => statSync(files.certificate)).to.throw('ENOENT')
    })
  }

  it('refuses to request with a key that is not its own', async () => {
    await requestCertificate(files, TARGET, OWNER)
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    writeFileSync(files.key, privateKey.export({ type: 'pkcs8', format: 'pem' }))
    const error = await requestCertificate(files, TARGET, OWNER).then(
      () => undefined,
      (thrown: Error) => thrown,
    )
    expect(error?.message).to.include('move it away')
    expect(createPrivateKey(readFileSync(files.key)).asymmetricKeyType).to.equal('rsa')
  })
})
