import type { ConsumeMessage } from 'amqplib'
import { expect } from 'chai'
import { decodeDelivery, EXPECT_COMMANDS } from '../../messages/envelope.ts'

const PUBLISH = { repository: 'main', instance: 'demo', target: 'db-7' }

function message(properties: object, headers: object): ConsumeMessage {
  return {
    content: Buffer.from(JSON.stringify(PUBLISH)),
    fields: { routingKey: 'instance.publish', exchange: 'howdah.commands', redelivered: false },
    properties: { ...properties, headers: { 'howdah-version': '2', ...headers } },
  } as unknown as ConsumeMessage
}

describe('a client that can set headers only', () => {
  it('sends its type and message id as headers', () => {
    const headers = { 'howdah-type': 'instance.publish', 'howdah-message-id': 'job-1' }
    const { delivery, refused } = decodeDelivery(message({}, headers), EXPECT_COMMANDS)
    expect(refused).to.equal(undefined)
    expect(delivery).to.deep.include({ type: 'instance.publish', messageId: 'job-1', body: PUBLISH })
  })

  it('is refused without them, or when they are no texts', () => {
    for (const [headers, field] of [
      [{ 'howdah-message-id': 'job-1' }, 'type'],
      [{ 'howdah-type': 7, 'howdah-message-id': 'job-1' }, 'type'],
      [{ 'howdah-type': 'instance.publish' }, 'message_id'],
      [{ 'howdah-type': 'instance.publish', 'howdah-message-id': '' }, 'message_id'],
    ] as const) {
      expect(decodeDelivery(message({}, headers), EXPECT_COMMANDS).refused).to.include({ field })
    }
  })

  it('does not override the properties of a message', () => {
    const headers = { 'howdah-type': 'session.list', 'howdah-message-id': 'other' }
    const { delivery } = decodeDelivery(
      message({ type: 'instance.publish', messageId: 'job-1' }, headers),
      EXPECT_COMMANDS,
    )
    expect(delivery).to.include({ type: 'instance.publish', messageId: 'job-1' })
  })
})
