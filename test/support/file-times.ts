/** Owns the table of how long each test file of a run took: its tests and hooks, added up. */

/** What mocha reports of a test or a hook that has ended; root hooks have no file. */
export interface Timed {
  readonly file?: string | undefined
  readonly duration?: number | undefined
}

export interface FileTimes {
  add(ended: Timed): void
  /** Lines of the files that took longest, the longest first; empty where fewer than two files ran. */
  slowest(count: number): string[]
}

export function createFileTimes(): FileTimes {
  const milliseconds = new Map<string, number>()
  return {
    add({ file, duration = 0 }) {
      if (file !== undefined) milliseconds.set(file, (milliseconds.get(file) ?? 0) + duration)
    },
    slowest(count) {
      if (milliseconds.size < 2) return []
      return [...milliseconds]
        .sort(([, one], [, other]) => other - one)
        .slice(0, count)
        .map(([file, ms]) => `${(ms / 1000).toFixed(1).padStart(7)} s  ${file}`)
    },
  }
}
