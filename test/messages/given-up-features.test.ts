/**
 * That RabbitMQ, where it can, refuses to the tests what its next releases no longer have: then whatever passes in them,
 * passes without.
 */
import amqp from 'amqplib'
import { expect } from 'chai'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { RABBITMQ_VERSION, REFUSES_WHAT_IS_GIVEN_UP } from '../support/rabbitmq.ts'

describe(`RabbitMQ ${RABBITMQ_VERSION}`, function () {
  this.timeout(60_000)
  let vhost: TestVhost

  before(async () => {
    vhost = await testVhost()
  })

  after(() => vhost?.remove())

  it(`${REFUSES_WHAT_IS_GIVEN_UP ? 'refuses' : 'still has'} queues that are neither durable nor exclusive`, async () => {
    const connection = await amqp.connect(vhost.url)
    connection.on('error', () => {})
    const channel = await connection.createChannel()
    channel.on('error', () => {})
    const outcome = await channel.assertQueue('test.transient', { durable: false }).then(
      () => 'taken',
      () => 'refused',
    )
    expect(outcome).to.equal(REFUSES_WHAT_IS_GIVEN_UP ? 'refused' : 'taken')
    await connection.close().catch(() => {})
  })
})
