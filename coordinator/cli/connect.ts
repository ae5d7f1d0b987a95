/** Connects the command line to a broker: as a client of the contract, or as an operator. */
import { hostname, userInfo } from 'node:os'
import type { Logger } from 'pino'
import { ConfigurationError } from '../../config/configuration-error.ts'
import type { CommonConfig } from '../../config/schema.ts'
import { brokerAccess } from '../../config/tls.ts'
import { version } from '../../config/version.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { connectOperator, type OperatorConnection } from '../../messages/operator-connection.ts'

/** In the RabbitMQ console. */
const shownAs = () => ({ name: clientName(), version: version() })

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
export function connectTo(broker: CommonConfig['broker'], appId: string, logger: Logger): Promise<Bus> {
  return connecting(() =>
    connectBus({ ...brokerAccess(broker), ...shownAs(), appId, role: 'client', logger }),
  )
}

/** As `connectTo`. */
export function connectOperatorTo(
  broker: CommonConfig['broker'],
  logger: Logger,
): Promise<OperatorConnection> {
  return connecting(() => connectOperator({ ...brokerAccess(broker), ...shownAs(), logger }))
}

async function connecting<T>(connect: () => Promise<T>): Promise<T> {
  try {
    return await connect()
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error
    throw new HowdahError('configuration', error.message, { cause: error })
  }
}
