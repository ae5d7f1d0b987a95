import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { ConfigurationError } from '../../config/configuration-error.ts'
import { brokerAccess, followTls } from '../../config/tls.ts'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'

const none = { ca: null, certificate: null, key: null }

describe('the access to a broker', () => {
  let directory = ''
  let files: CertificatePaths
  let others: CertificatePaths

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-tls-'))
    const identities = ['db-7', 'db-8'].map((name) => ({ kind: 'target', name, addresses: [] }) as const)
    ;[files, others] = (await ensureCertificates(directory, { identities })) as [
      CertificatePaths,
      CertificatePaths,
    ]
  })
  after(() => rm(directory, { recursive: true }))

  it('is by TLS with the authority of the configuration', () => {
    const { url, tls } = brokerAccess({ urls: ['amqps://b/howdah'], ...none, ca: files.ca })
    expect(url).to.deep.equal(['amqps://b/howdah'])
    expect(tls?.secureContext.context).to.be.an('object')
    expect(tls?.user).to.equal(undefined)
  })

  it('names the user of the certificate', () => {
    const { ca, cert: certificate, key } = files
    const { tls } = brokerAccess({ urls: ['amqps://b/howdah'], ca, certificate, key })
    expect(tls?.user).to.equal('howdah-target-db-7')
  })

  it('is without TLS where nothing asks for it', () => {
    expect(brokerAccess({ urls: ['amqp://b/howdah'], ...none })).to.deep.equal({ url: ['amqp://b/howdah'] })
  })

  it('is refused with files that do not fit together, by their names', () => {
    const { ca, cert: certificate } = files
    const access = () => brokerAccess({ urls: ['amqps://b/howdah'], ca, certificate, key: others.key })
    expect(access).to.throw(ConfigurationError, /target-db-7\.pem, .*target-db-8\.key do not fit together/)
  })

  it('follows its files, and stays as it was while they do not fit together', async () => {
    const { ca } = files
    const certificate = join(directory, 'followed.pem')
    const key = join(directory, 'followed.key')
    const write = async (file: string, text: string) => {
      await writeFile(`${file}.new`, text)
      await rename(`${file}.new`, file)
    }
    await write(certificate, await readFile(files.cert, 'utf8'))
    await write(key, await readFile(files.key, 'utf8'))
    const followed = followTls({ ca, certificate, key }, 'tls')
    const first = followed.context
    expect(followed.context).to.equal(first)
    await write(key, await readFile(others.key, 'utf8'))
    expect(followed.context, 'between the two files').to.equal(first)
    await write(certificate, await readFile(others.cert, 'utf8'))
    const second = followed.context
    expect(second).to.not.equal(first)
    expect(followed.context).to.equal(second)
  })

  for (const key of ['ca', 'certificate', 'key']) {
    it(`is refused when broker.${key} is given with a URL of plaintext, instead of ignoring it`, () => {
      const access = () =>
        brokerAccess({ urls: ['amqps://a/howdah', 'amqp://b/howdah'], ...none, [key]: '/etc/howdah/a.pem' })
      expect(access).to.throw(ConfigurationError, new RegExp(`broker\\.${key} is for TLS.*amqps://`))
    })
  }
})
