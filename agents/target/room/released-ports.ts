/** Ports that sessions gave back lately. */

export interface ReleasedPorts {
  /** Those that nobody should choose who may have any other. */
  ports(): readonly number[]
  release(port: number | undefined): void
}

const HOLD_MS = 30_000

/**
 * A session that is published again in its place wants its own port back, so one that begins meanwhile is given another.
 * Where ports are few they are for whoever comes.
 */
export function createReleasedPorts([first, last]: readonly [number, number], now = Date.now): ReleasedPorts {
  const releasedAt = new Map<number, number>()
  const most = Math.floor((last - first + 1) / 4)
  return {
    ports() {
      for (const [port, at] of releasedAt) if (now() - at > HOLD_MS) releasedAt.delete(port)
      return most === 0 ? [] : [...releasedAt.keys()].slice(-most)
    },
    release(port) {
      if (port === undefined || port === 0) return
      releasedAt.delete(port)
      releasedAt.set(port, now())
    },
  }
}
