/**
 * Asks whether an exchange exists before the first message is published to it: RabbitMQ closes the channel of a message to
 * an exchange that is missing, and with it everything else that was published there.
 */
import type { BrokerConnection } from './connection.ts'
import { exchangeExists } from './declare.ts'
import { HowdahError } from './errors.ts'

/**
 * Each exchange is asked for until it exists.
 * @param connection one on which nothing is published: RabbitMQ answers on it during an alarm, too
 * @throws HowdahError `unroutable` while it does not
 */
export function createExchangeCheck(
  connection: Pick<BrokerConnection, 'openChannel' | 'openSince'>,
): (name: string) => Promise<void> {
  const known = new Set<string>()
  return async (name) => {
    // Without a connection the message waits in the publisher, which must not wait here without a deadline.
    if (known.has(name) || connection.openSince === undefined) return
    const exists = await exchangeExists(connection, name).catch(() => undefined)
    if (exists === false) {
      throw new HowdahError(
        'unroutable',
        `there is no exchange ${name}: no coordinator was ever started on this broker`,
      )
    }
    if (exists) known.add(name)
  }
}
