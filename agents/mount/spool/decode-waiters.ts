/** Readers that wait for a decode to reach a position. Each is resolved, rejected or aborted once. */

export interface DecodeWaiters {
  /**
   * Resolves with the descriptor given to `reached` once that comes to `bytes`, or to `complete`.
   * @throws the signal's reason, or what `fail` was given
   */
  wait(bytes: number, signal: AbortSignal | undefined): Promise<number>
  /** The first `decoded` bytes can be read from `fd`. */
  reached(decoded: number, fd: number): void
  /** All bytes can be read from `fd`: also those who wait for more than there are. */
  complete(fd: number): void
  fail(error: unknown): void
}

interface Waiter {
  readonly bytes: number
  readonly resolve: (fd: number) => void
  readonly reject: (error: unknown) => void
}

export function createDecodeWaiters(): DecodeWaiters {
  const waiters = new Set<Waiter>()

  function reached(decoded: number, fd: number): void {
    for (const waiter of waiters) {
      if (waiter.bytes > decoded) continue
      waiters.delete(waiter)
      waiter.resolve(fd)
    }
  }

  return {
    wait: (bytes, signal) =>
      new Promise((resolve, reject) => {
        const abort = () => {
          waiters.delete(waiter)
          reject(signal?.reason)
        }
        const done = () => signal?.removeEventListener('abort', abort)
        const waiter: Waiter = {
          bytes,
          resolve: (fd) => {
            done()
            resolve(fd)
          },
          reject: (error) => {
            done()
            reject(error)
          },
        }
        signal?.addEventListener('abort', abort, { once: true })
        waiters.add(waiter)
      }),
    reached,
    complete: (fd) => reached(Number.POSITIVE_INFINITY, fd),
    fail(error) {
      for (const waiter of waiters) waiter.reject(error)
      waiters.clear()
    },
  }
}
