import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { ConfigurationError } from '../../config/configuration-error.ts'
import { brokerAccess } from '../../config/tls.ts'

const none = { ca: null, certificate: null, key: null }

describe('the access to a broker', () => {
  it('is by TLS with the files of the configuration', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'howdah-tls-'))
    try {
      const ca = join(directory, 'ca.pem')
      await writeFile(ca, 'an authority')
      const { url, tls } = brokerAccess({ url: 'amqps://b/howdah', ...none, ca })
      expect(url).to.equal('amqps://b/howdah')
      expect(tls?.ca?.toString()).to.equal('an authority')
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  it('is without TLS where nothing asks for it', () => {
    expect(brokerAccess({ url: 'amqp://b/howdah', ...none })).to.deep.equal({ url: 'amqp://b/howdah' })
  })

  for (const key of ['ca', 'certificate', 'key']) {
    it(`is refused when broker.${key} is given with a URL of plaintext, instead of ignoring it`, () => {
      const access = () => brokerAccess({ url: 'amqp://b/howdah', ...none, [key]: '/etc/howdah/a.pem' })
      expect(access).to.throw(ConfigurationError, new RegExp(`broker\\.${key} is for TLS.*amqps://`))
    })
  }
})
