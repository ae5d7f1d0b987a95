/** Connects the command line to a broker, with the TLS files that the configuration names. */
import { readFileSync } from 'node:fs'
import type { Logger } from 'pino'
import type { CommonConfig } from '../../config/schema.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'

/** @throws HowdahError `broker_unavailable` | `configuration` */
export function connectTo(broker: CommonConfig['broker'], appId: string, logger: Logger): Promise<Bus> {
  const tls = {
    ...(broker.ca !== null && { ca: readPem(broker.ca) }),
    ...(broker.certificate !== null && { cert: readPem(broker.certificate) }),
    ...(broker.key !== null && { key: readPem(broker.key) }),
  }
  return connectBus({ url: broker.url, appId, logger, ...(Object.keys(tls).length > 0 && { tls }) })
}

function readPem(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new HowdahError('configuration', `TLS file of the broker: ${(error as Error).message}`, {
      cause: error,
    })
  }
}
