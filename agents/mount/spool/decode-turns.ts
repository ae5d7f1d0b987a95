/**
 * Schedules decodes. Every decode takes a turn per piece. Decodes with waiting readers run first, as many concurrently
 * as there are cores. Those without readers run one at a time, and only after a quiet period: they speculate on later
 * reads, and must not slow down present ones.
 */

export interface Turns {
  /**
   * Resolves when the piece may be decoded, with the function that ends the turn. `urgent` is called at every
   * scheduling decision.
   */
  take(urgent: () => boolean): Promise<() => void>
  /** To be called when the result of an `urgent` may have changed. */
  reconsider(): void
}

interface Waiting {
  readonly urgent: () => boolean
  readonly go: (end: () => void) => void
}

export function createTurns(cores: number, quietMs: number): Turns {
  const waiting: Waiting[] = []
  let urgentRunning = 0
  let idleRunning = 0
  let urgentAt = 0
  let timer: NodeJS.Timeout | undefined

  function start(index: number, urgent: boolean): void {
    const [chosen] = waiting.splice(index, 1)
    if (urgent) urgentRunning += 1
    else idleRunning += 1
    let ended = false
    chosen?.go(() => {
      if (ended) return
      ended = true
      if (urgent) {
        urgentRunning -= 1
        urgentAt = Date.now()
      } else idleRunning -= 1
      choose()
    })
  }

  function choose(): void {
    while (urgentRunning < cores) {
      const index = waiting.findIndex(({ urgent }) => urgent())
      if (index < 0) break
      start(index, true)
    }
    if (waiting.length === 0 || urgentRunning > 0 || idleRunning > 0) return
    const wait = urgentAt + quietMs - Date.now()
    if (wait <= 0) {
      start(0, false)
    } else if (timer === undefined) {
      timer = setTimeout(() => {
        timer = undefined
        choose()
      }, wait).unref()
    }
  }

  return {
    take: (urgent) =>
      new Promise((go) => {
        waiting.push({ urgent, go })
        choose()
      }),
    reconsider: choose,
  }
}
