/**
 * Loaded into a process before its program: measures the delay of its event loop, and on SIGUSR2 writes the percentile 99
 * in milliseconds to the file that HOWDAH_BENCH_DELAY names, and begins anew.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const file = process.env.HOWDAH_BENCH_DELAY
delete process.env.HOWDAH_BENCH_DELAY
delete process.env.NODE_OPTIONS
if (file !== undefined) {
  const resolution = 5
  const histogram = monitorEventLoopDelay({ resolution })
  histogram.enable()
  process.on('SIGUSR2', () => {
    // The timer's own interval is part of each sample.
    const milliseconds = Math.max(0, histogram.percentile(99) / 1e6 - resolution)
    histogram.reset()
    writeFileSync(`${file}.new`, String(milliseconds))
    renameSync(`${file}.new`, file)
  })
}
