/** Ports that sessions released recently. */

export interface ReleasedPorts {
  /** Ports that a session without a port of its own should not be given yet. */
  ports(): readonly number[]
  release(port: number | undefined): void
}

const HOLD_MS = 30_000

/**
 * Holds a released port back for a while: a session that is republished asks for the same port again. At most a quarter of
 * the range is held back.
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
