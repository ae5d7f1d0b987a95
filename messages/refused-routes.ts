/**
 * Routes and exchanges that RabbitMQ refused a short time ago. Each further try would cost the channel, so what goes there
 * is rejected with the same error for a while.
 */
import type { HowdahError } from './errors.ts'
import type { Publication } from './publication.ts'

const REFUSED_MS = 5_000

export interface RefusedRoutes {
  /** @param extent whether all messages to the exchange of the publication are refused, or those with its routing key */
  add(extent: 'exchange' | 'route', publication: Publication, error: HowdahError): void
  /** The error of a publication that would be refused, too. */
  find(publication: Publication): HowdahError | undefined
}

export function createRefusedRoutes(): RefusedRoutes {
  const refused = new Map<string, HowdahError>()
  const routeOf = ({ exchange, routingKey }: Publication): string => `${exchange} ${routingKey}`
  return {
    add(extent, publication, error) {
      const key = extent === 'exchange' ? publication.exchange : routeOf(publication)
      refused.set(key, error)
      setTimeout(() => refused.delete(key), REFUSED_MS).unref()
    },
    find: (publication) => refused.get(publication.exchange) ?? refused.get(routeOf(publication)),
  }
}
