/** Owns a look at what agents report to the coordinator, which clients do not see: with plain amqplib, as the broker's administrator. */
import { connect } from 'amqplib'

export interface ReportWatch {
  close(): Promise<void>
}

/** `event`: the last word of the routing key, such as `step-done`. */
export async function watchReports<Body>(
  brokerUrl: string,
  event: string,
  onReport: (body: Body) => void,
): Promise<ReportWatch> {
  const connection = await connect(brokerUrl)
  const channel = await connection.createChannel()
  const { queue } = await channel.assertQueue('', { exclusive: true })
  await channel.bindQueue(queue, 'howdah.events', `agent.*.*.${event}`)
  await channel.consume(
    queue,
    (message) => message && onReport(JSON.parse(message.content.toString()) as Body),
    { noAck: true },
  )
  return { close: () => connection.close() }
}
