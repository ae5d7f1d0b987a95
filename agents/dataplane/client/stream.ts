/**
 * Owns how the data plane's client receives a stream: ahead of the caller up to a window, and after a reconnect from
 * where it stopped.
 */
import { encodeCredit, malformed } from '../protocol/protocol.ts'
import type { Exchange, ExchangeHost } from './exchange.ts'

export interface StreamPlan<T> {
  /** Bytes that keep its connection busy. */
  readonly cost: number
  /** What may be in flight or wait for the caller, in units of `weigh`; the last item sent may exceed it. */
  readonly window: number
  /** The request for what `take` has not seen yet; `credit` is what the caller has room for. */
  request(id: number, credit: number): Buffer
  /** Takes a frame of the answer; undefined when it is the last. @throws HowdahError when it does not belong here */
  take(type: number, payload: Buffer): T | undefined
  weigh(item: T): number
}

/** @throws HowdahError as the request fails; the signal's reason */
export async function* receiveStream<T>(
  host: ExchangeHost,
  plan: StreamPlan<T>,
  signal?: AbortSignal,
): AsyncGenerator<T> {
  signal?.throwIfAborted()
  const id = host.nextId()
  const items: T[] = []
  let waiting = 0
  /** What the caller took and the server has no credit for yet. */
  let freed = 0
  let ended = false
  let failure: unknown
  let wake: (() => void) | undefined

  const fail = (error: unknown) => {
    failure ??= error
    wake?.()
  }
  const exchange: Exchange = {
    get frame() {
      freed = 0
      return plan.request(id, Math.max(0, plan.window - waiting))
    },
    cost: plan.cost,
    deadline: Number.POSITIVE_INFINITY,
    connection: undefined,
    attempts: 0,
    retry: undefined,
    reason: undefined,
    answer(type, payload) {
      const item = plan.take(type, payload)
      if (item === undefined) ended = true
      else {
        // A server that sends without credit would fill this process's memory.
        if (waiting >= plan.window) throw malformed('stream')
        items.push(item)
        waiting += plan.weigh(item)
      }
      wake?.()
      return ended
    },
    fail,
  }
  const abort = () => fail(signal?.reason)

  host.start(id, exchange)
  signal?.addEventListener('abort', abort, { once: true })
  try {
    while (true) {
      if (signal?.aborted) throw signal.reason
      const item = items.shift()
      if (item !== undefined) {
        waiting -= plan.weigh(item)
        freed += plan.weigh(item)
        if (!ended && freed * 8 >= plan.window) {
          exchange.connection?.send(encodeCredit(id, freed))
          freed = 0
        }
        yield item
        continue
      }
      if (failure !== undefined) throw failure
      if (ended) return
      exchange.deadline = host.now() + host.deadlineMs
      await new Promise<void>((resolve) => {
        wake = resolve
      })
      exchange.deadline = Number.POSITIVE_INFINITY
    }
  } finally {
    signal?.removeEventListener('abort', abort)
    host.abandon(id)
  }
}
