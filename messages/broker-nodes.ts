/**
 * The nodes of a broker that a connection tries in turn, in an order of its own. Owns which one is next, and why each
 * could not be reached. Connects to none.
 */
import type { Options } from 'amqplib'
import { amqpFailure } from './amqp-failure.ts'
import { backoffMs } from './backoff.ts'
import { nodeName } from './broker-address.ts'
import { HowdahError } from './errors.ts'

const RECONNECT = { firstMs: 100, maxMs: 5_000 }

export interface BrokerNodes {
  /** What to give to amqplib, which reads the fields anew for each attempt. */
  readonly target: Options.Connect
  /** HOST:PORT of the target. */
  readonly current: string
  /** Why no node could be reached so far, those named that were tried; undefined: none was tried in vain. */
  readonly failure: HowdahError | undefined
  /** The target was reached. */
  reached(): void
  /** The target could not be reached: the next node is the target then. Returns what happened to this one. */
  failed(error: unknown): HowdahError
  /** The connection to the target was lost: the next node is the target then. */
  lost(): void
  /** How long to wait before attempt number `attempt` since the last connection, from 1: all nodes are tried before it grows. */
  delayMs(attempt: number): number
}

/**
 * @param addresses of the nodes of one cluster. Clients begin with different ones, so that its nodes share them.
 * @param user who connects, for messages
 */
export function createBrokerNodes(
  addresses: readonly [URL, ...URL[]],
  user: string,
  random = Math.random,
): BrokerNodes {
  const order = shuffled(addresses, random)
  const failures = new Map<string, HowdahError>()
  let at = 0
  const node = (): URL => order[at % order.length] as URL
  const target = connectOptions(node())
  const next = (): void => {
    at += 1
    Object.assign(target, connectOptions(node()))
  }
  return {
    target,
    get current() {
      return nodeName(node())
    },
    get failure() {
      return failures.size < 2 ? failures.values().next().value : ofSeveral([...failures.values()], order)
    },
    reached: () => failures.clear(),
    failed(error) {
      const failure = amqpFailure(error, `be reached at ${nodeName(node())}, as ${user}`)
      failures.set(nodeName(node()), failure)
      next()
      return failure
    },
    lost: next,
    delayMs: (attempt) => backoffMs(Math.ceil(attempt / order.length), RECONNECT, random),
  }
}

function ofSeveral(failures: readonly HowdahError[], nodes: readonly URL[]): HowdahError {
  const hint =
    failures.length === nodes.length
      ? '. A cluster that has lost the majority of its nodes takes no connections until they are back'
      : ''
  return new HowdahError(
    'broker_unavailable',
    `${failures.map(({ message }) => message).join('; ')}${hint}`,
    {
      cause: failures.at(-1),
    },
  )
}

/** The fields of a URL as amqplib takes them apart; it decodes the virtual host itself. */
function connectOptions({
  protocol,
  hostname,
  port,
  username,
  password,
  pathname,
  searchParams,
}: URL): Options.Connect {
  return {
    ...Object.fromEntries(searchParams),
    protocol: protocol.slice(0, -1),
    hostname: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port) || (protocol === 'amqps:' ? 5671 : 5672),
    username: decodeURIComponent(username) || 'guest',
    password: username === '' ? 'guest' : decodeURIComponent(password),
    vhost: pathname.slice(1),
  }
}

/** Fisher and Yates. */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items]
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1))
    const [a, b] = [result[last] as T, result[other] as T]
    result[last] = b
    result[other] = a
  }
  return result
}
