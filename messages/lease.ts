/**
 * The lease of the coordinators that share a store: of all that are connected to a broker, one at a time is active.
 *
 * Owns two queues that never hold a message. One is exclusive to the connection that consumes: RabbitMQ refuses its
 * declaration to every other one and deletes it with the connection, so that whoever declares it holds the lease, and loses it
 * not later than his consumers. The other names the store in an argument, which RabbitMQ compares with every later
 * declaration: the first store is the one that the broker belongs to, and no coordinator with another one becomes active.
 */
import type { Channel, ConfirmChannel } from 'amqplib'
import type { Logger } from 'pino'
import { amqpFailure, PRECONDITION_FAILED, RESOURCE_LOCKED } from './amqp-failure.ts'
import type { Channels } from './channels.ts'
import { declareQueue } from './declare.ts'
import { HowdahError } from './errors.ts'
import { createOutageLog } from './outage-log.ts'
import { COORDINATOR_LEASE, coordinatorStore } from './topology.ts'
import { beginTurn, strangeTurn, type Turn, type TurnRecord } from './turn.ts'
import { atMost, pause } from './wait.ts'

/** How often a coordinator that stands by asks for the lease. */
const ASK_MS = 1_000
/** How often it tries again after another failure. */
const RETRY_MS = 2_000
const CLOSE_MS = 2_000

export interface Lease {
  /** Since when it is held, in ms since the epoch; undefined while it is not. */
  readonly heldSince: number | undefined
  /** Gives the lease up, and asks for it again once it is ready. Does nothing while it is not held. */
  giveUp(): void
  /** Gives the lease up, and does not ask for it again. */
  close(): Promise<void>
}

export interface LeaseOptions {
  /** The id of the store. */
  readonly store: string
  /** What that store remembers of turns. Default: nobody asks. */
  readonly turns?: TurnRecord
  /** Called each time the lease was obtained, and each time it was lost, `close` included, in turn. */
  readonly onHeld: () => void
  readonly onLost: () => void
  /** Waited for each time before the lease is asked for: whether this coordinator could do its work. Default: it can. */
  readonly ready?: (signal: AbortSignal) => Promise<void>
}

interface Surroundings {
  /** The connection that consumes. */
  readonly connection: Channels
  /** Whether the lease is certainly held by somebody. RabbitMQ logs an error for each declaration that it refuses. */
  readonly isTaken: () => Promise<boolean>
  /** Aborted when the bus is closed. */
  readonly ended: AbortSignal
  /** Of the consumer. */
  readonly tag: string
  readonly logger: Logger
}

/**
 * Resolves when the lease is held, or when another coordinator with the same store holds it and this one stands by.
 * @throws HowdahError `configuration` when the broker belongs to another store, and as `declareQueue`
 */
export async function holdLease(options: LeaseOptions, surroundings: Surroundings): Promise<Lease> {
  const { store, turns, onHeld, onLost, ready = async () => {} } = options
  const { connection, isTaken, ended, tag, logger } = surroundings
  const closing = new AbortController()
  const stopped = AbortSignal.any([closing.signal, ended])
  const settled = Promise.withResolvers<void>()
  let heldSince: number | undefined
  let standsBy = false
  let giveUp: () => void = () => {}
  const outage = createOutageLog({
    logger,
    failing: 'this coordinator cannot become active',
    again: 'this coordinator can become active again',
  })

  async function keepAsking(): Promise<void> {
    while (!stopped.aborted) {
      try {
        await ready(stopped)
        if (!stopped.aborted) await holdOn(await connection.openChannel())
      } catch (error) {
        await notHeld(error)
      }
    }
  }

  /** Until the channel closes or the queue is deleted. */
  async function holdOn(channel: ConfirmChannel): Promise<void> {
    const over = Promise.withResolvers<void>()
    const end = (): void => over.resolve()
    channel.once('close', end)
    channel.on('error', () => {}) // the declaration that caused it rejects
    await claimStore(channel, store)
    await channel.assertQueue(COORDINATOR_LEASE, { exclusive: true, durable: false })
    try {
      const strange = turns && (await beginTurn(channel, turns))
      if (strange) logger.error(behind(strange))
    } catch (error) {
      await atMost(CLOSE_MS, leave(channel, true))
      throw error
    }
    // RabbitMQ cancels the consumer of a queue that somebody deletes.
    const watch = (message: unknown): void => void (message === null && end())
    await channel.consume(COORDINATOR_LEASE, watch, { noAck: true, consumerTag: tag })
    stopped.addEventListener('abort', end, { once: true })
    if (stopped.aborted) end()
    let givenUp = false
    giveUp = () => {
      givenUp = true
      end()
    }
    heldSince = Date.now()
    standsBy = false
    outage.works()
    logger.info({ store }, 'this coordinator is active')
    onHeld()
    settled.resolve()
    await over.promise
    stopped.removeEventListener('abort', end)
    heldSince = undefined
    giveUp = () => {}
    logger.info('this coordinator is not active any more')
    onLost()
    await atMost(CLOSE_MS, leave(channel, givenUp || stopped.aborted))
  }

  /** The queue is the connection's, which may stay open. */
  async function leave(channel: Channel, deliberately: boolean): Promise<void> {
    try {
      if (deliberately) await channel.deleteQueue(COORDINATOR_LEASE)
      await channel.close()
    } catch {
      // The channel has gone, and with it the connection or the queue.
    }
  }

  /** A turn is in the store before it is at the broker, so that a store that is shared knows it. */
  async function requireSameStore(): Promise<void> {
    if (turns === undefined || standsBy) return
    const channel = await connection.openChannel()
    channel.on('error', () => {}) // the call that caused it rejects
    try {
      const strange = await strangeTurn(channel, turns)
      if (!strange) return
      logger.error(copied(strange))
      settled.reject(new HowdahError('configuration', copied(strange)))
    } finally {
      await channel.close().catch(() => {})
    }
  }

  async function notHeld(error: unknown): Promise<void> {
    if (stopped.aborted) return
    if ((error as { code?: unknown }).code === RESOURCE_LOCKED) {
      await requireSameStore().catch((failure: unknown) => {
        logger.debug({ err: failure }, 'the last turn cannot be read')
      })
      outage.works()
      if (!standsBy) logger.info('another coordinator is active, this one stands by')
      standsBy = true
      settled.resolve()
      do await pause(ASK_MS, stopped)
      while (!stopped.aborted && (await isTaken()))
      return
    }
    const failure = amqpFailure(error, 'hold the lease of the coordinators')
    if (failure.code === 'configuration') settled.reject(failure)
    outage.failed(failure)
    await pause(RETRY_MS, stopped)
  }

  const asking = keepAsking()
  const close = async (): Promise<void> => {
    closing.abort()
    await atMost(CLOSE_MS, asking)
  }
  try {
    await settled.promise
  } catch (error) {
    await close()
    throw error
  }
  return {
    get heldSince() {
      return heldSince
    },
    giveUp: () => giveUp(),
    close,
  }
}

function copied({ host, beganAt }: Turn): string {
  return (
    `the coordinator on ${host} has been active since ${beganAt} with another copy of the store of this one: each would know ` +
    'only what it did itself. Point store.url of both at one PostgreSQL database, or run one of them only'
  )
}

function behind({ host, beganAt }: Turn): string {
  return (
    `the store does not know that the coordinator on ${host} was active since ${beganAt}: it is an older copy, or was restored ` +
    'from a backup. Sessions that it does not know are listed by "howdah agents" as orphans; if the newer copy still exists, ' +
    'stop this coordinator and use that one'
  )
}

/** @throws HowdahError `configuration` when the broker belongs to another store */
async function claimStore(channel: Channel, store: string): Promise<void> {
  const queue = coordinatorStore(store)
  try {
    await declareQueue(channel, queue)
  } catch (error) {
    const { cause } = error as { cause?: { code?: unknown; message?: string } }
    if (cause?.code !== PRECONDITION_FAILED) throw error
    throw new HowdahError(
      'configuration',
      `this coordinator has the store "${store}", and the broker belongs to the coordinators of another one: ${cause.message}. ` +
        'Point store.path or store.url at that store; or use another broker or virtual host; or, if that store is gone for good, ' +
        `delete the queue ${queue.name} in RabbitMQ`,
      { cause: error },
    )
  }
}
