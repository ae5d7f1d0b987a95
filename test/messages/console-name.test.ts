import { expect } from 'chai'
import { clientProperties, connectionName, consumerTag } from '../../messages/console-name.ts'

const NAME = { name: 'howdah target db-7', version: '1.2.0' }

describe('what the RabbitMQ console shows of a process', () => {
  it('names a connection by kind, name, release and purpose', () => {
    expect(connectionName(NAME, 'publish')).to.equal('howdah target db-7 1.2.0 (publish)')
    expect(connectionName({ ...NAME, version: undefined }, 'consume')).to.equal(
      'howdah target db-7 (consume)',
    )
    expect(clientProperties(NAME)).to.include({ product: 'Howdah', version: '1.2.0' })
  })

  it('tags a consumer with kind and name, in the bytes that AMQP allows', () => {
    expect(consumerTag(NAME)).to.equal('howdah target db-7')
    expect(Buffer.byteLength(consumerTag({ ...NAME, name: 'h'.repeat(300) }))).to.equal(200)
  })
})
