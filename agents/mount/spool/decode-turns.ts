/**
 * Who may decode next. Every decode takes a turn per piece; those that a reader waits for go first, as many at once as
 * there are cores. Those that nobody waits for get turns only when it has been quiet, one at a time: they are a bet on
 * later reads, and must not slow down the ones that are.
 */

export interface Turns {
  /** Resolves when the piece may be decoded, with the function that ends the turn. `urgent` is asked again at every choice. */
  take(urgent: () => boolean): Promise<() => void>
  /** Tells that the answer of somebody's `urgent` may have changed. */
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
