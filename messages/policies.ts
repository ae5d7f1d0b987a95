/**
 * Limits of the queues that an operator may tune, as policies: unlike the arguments of a declaration they can be changed
 * while the queues exist. Howdah works without them: heartbeats and queries expire by themselves, the bus gives up on a
 * message after a few failures or 30 deliveries without an outcome, and the arguments of the queues have outer bounds.
 */

export interface Policy {
  readonly name: string
  /** Regular expression on the names of queues. RabbitMQ applies one policy to a queue, so patterns do not overlap. */
  readonly pattern: string
  readonly definition: Readonly<Record<string, string | number>>
}

/** Deliveries without an outcome before RabbitMQ dead-letters a message. The bus gives up earlier and says why. */
const DELIVERY_LIMIT = 50
/** Longer than any query takes. */
const QUERY_TTL_MS = 1_800_000
const HEARTBEAT_TTL_MS = 120_000
/** As the longest that the bus gives one. */
const OBSERVATION_TTL_MS = 1_200_000

export const POLICIES: readonly Policy[] = [
  {
    name: 'howdah-work',
    pattern: '^howdah\\.(coordinator|coordinator\\.events|mount\\.[^.]+|target\\.[^.]+)$',
    definition: { 'delivery-limit': DELIVERY_LIMIT },
  },
  {
    name: 'howdah-queries',
    pattern: '^howdah\\.coordinator\\.queries$',
    definition: { 'delivery-limit': DELIVERY_LIMIT, 'message-ttl': QUERY_TTL_MS },
  },
  {
    name: 'howdah-heartbeats',
    pattern: '^howdah\\.coordinator\\.heartbeats$',
    definition: { 'max-length': 20_000, 'message-ttl': HEARTBEAT_TTL_MS },
  },
  {
    name: 'howdah-observations',
    pattern: '^howdah\\.coordinator\\.observations$',
    definition: { 'max-length': 100_000, 'message-ttl': OBSERVATION_TTL_MS },
  },
  {
    name: 'howdah-dead-letters',
    pattern: '^howdah\\.dead-letters$',
    definition: { 'max-length': 10_000 },
  },
  {
    name: 'howdah-audit',
    pattern: '^howdah\\.audit$',
    definition: { 'max-age': '400D', 'max-length-bytes': 5_000_000_000 },
  },
]
