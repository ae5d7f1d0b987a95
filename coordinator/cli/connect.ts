/** Connects the command line to a broker. */
import { hostname, userInfo } from 'node:os'
import type { Logger } from 'pino'
import { ConfigurationError } from '../../config/configuration-error.ts'
import type { CommonConfig } from '../../config/schema.ts'
import { brokerAccess } from '../../config/tls.ts'
import { version } from '../../config/version.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'

/** Who uses the command line where: `howdah client ops@srv-1`. */
function clientName(): string {
  const host = hostname()
  try {
    return `howdah client ${userInfo().username}@${host}`
  } catch {
    // The user has no entry in the user database.
    return `howdah client ${process.getuid?.()}@${host}`
  }
}

/** @throws HowdahError `broker_unavailable` | `configuration` */
export async function connectTo(broker: CommonConfig['broker'], appId: string, logger: Logger): Promise<Bus> {
  try {
    return await connectBus({
      ...{ ...brokerAccess(broker), appId, role: 'client', logger },
      ...{ name: clientName(), version: version() },
    })
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error
    throw new HowdahError('configuration', error.message, { cause: error })
  }
}
