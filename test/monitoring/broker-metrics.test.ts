/** What a role counts of its connection to RabbitMQ, on a bus without a broker. */
import { expect } from 'chai'
import { Registry } from 'prom-client'
import { brokerMetrics } from '../../config/monitoring/broker-metrics.ts'
import { UNOBSERVED } from '../../messages/bus-observer.ts'

describe('the metrics of the connection to RabbitMQ', () => {
  const START = Date.parse('2026-11-30T12:00:00Z')
  let registry: Registry
  let now: number
  let observer: ReturnType<typeof brokerMetrics>

  beforeEach(() => {
    registry = new Registry()
    now = START
    observer = brokerMetrics(registry, () => now)
  })

  const value = async (line: string): Promise<number | undefined> => {
    const found = (await registry.metrics()).split('\n').find((one) => one.startsWith(`${line} `))
    return found === undefined ? undefined : Number(found.slice(line.length + 1))
  }

  it('say of each connection whether it is up, and how often it was lost', async () => {
    expect(await value('howdah_broker_connected{connection="consume"}')).to.equal(0)
    observer.connection('consume', true)
    expect(await value('howdah_broker_connected{connection="consume"}')).to.equal(1)
    observer.connection('consume', false)
    expect(await value('howdah_broker_connected{connection="consume"}')).to.equal(0)
    expect(await value('howdah_broker_connection_losses_total{connection="consume"}')).to.equal(1)
    expect(await value('howdah_broker_connection_losses_total{connection="publish"}')).to.equal(0)
  })

  it('count what is published, and what waits for its confirm', async () => {
    const settle = [observer.publishing(), observer.publishing()]
    expect(await value('howdah_messages_unconfirmed')).to.equal(2)
    settle[0]?.(true)
    settle[1]?.(false)
    expect(await value('howdah_messages_unconfirmed')).to.equal(0)
    expect(await value('howdah_messages_published_total{outcome="confirmed"}')).to.equal(1)
    expect(await value('howdah_messages_published_total{outcome="failed"}')).to.equal(1)
  })

  it('show how long the oldest delivery is held, and how old it was when it was handled', async () => {
    const queue = 'howdah.coordinator.events'
    const settle = observer.received({ queue, type: 'session.usage', sentAt: START / 1000 - 40 })
    now += 3_000
    observer.received({ queue, type: undefined, sentAt: undefined })
    expect(await value(`howdah_oldest_delivery_seconds{queue="${queue}"}`)).to.equal(3)
    settle('handled')
    expect(await value(`howdah_oldest_delivery_seconds{queue="${queue}"}`)).to.equal(0)
    expect(await value(`howdah_message_age_seconds_sum{queue="${queue}"}`)).to.equal(43)
    expect(await value(`howdah_message_handling_seconds_sum{queue="${queue}"}`)).to.equal(3)
    const counted = `howdah_messages_handled_total{queue="${queue}",type="session.usage",outcome="handled"}`
    expect(await value(counted)).to.equal(1)
  })

  it('believe no timestamp that lies in the future, is older than a day, or of a delivery that comes again', async () => {
    const queue = 'howdah.coordinator'
    observer.received({ queue, type: undefined, sentAt: START / 1000 + 900 })('handled')
    observer.received({ queue, type: undefined, sentAt: 0 })('dead-lettered')
    observer.received({ queue, type: undefined, sentAt: START / 1000 - 5 })('redelivered')
    expect(await value(`howdah_message_age_seconds_sum{queue="${queue}"}`)).to.equal(0)
    expect(await value(`howdah_message_age_seconds_count{queue="${queue}"}`)).to.equal(1)
  })

  it('fit what a bus tells its observer', () => {
    const fitting: typeof UNOBSERVED = observer
    expect(Object.keys(fitting).sort()).to.deep.equal(Object.keys(UNOBSERVED).sort())
  })
})
