/** Connects the command line to a broker. */
import type { Logger } from 'pino'
import { ConfigurationError } from '../../config/configuration-error.ts'
import type { CommonConfig } from '../../config/schema.ts'
import { brokerAccess } from '../../config/tls.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'

/** @throws HowdahError `broker_unavailable` | `configuration` */
export async function connectTo(broker: CommonConfig['broker'], appId: string, logger: Logger): Promise<Bus> {
  try {
    return await connectBus({ ...brokerAccess(broker), appId, role: 'client', logger })
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error
    throw new HowdahError('configuration', error.message, { cause: error })
  }
}
