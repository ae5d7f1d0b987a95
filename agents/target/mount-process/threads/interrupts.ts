/**
 * Makes the kernel repeat INTERRUPT requests: it sends one per interrupted request, for the first signal, and the fatal
 * signal may be a later one. An INTERRUPT that is answered by EAGAIN is sent again; source: Linux, Documentation/filesystems/fuse,
 * "Interrupting filesystem operations". The engine holds no timer, so this is the main thread's.
 */
import { writeSync } from 'node:fs'
import { constants } from 'node:os'
import type { Logger } from 'pino'
import { OUT, OUT_HEADER_BYTES } from '../../filesystem/drivers/kernel/protocol.ts'

/** The additional time a killed process may have to wait. Milliseconds. */
const AGAIN_AFTER_MS = 1000

export interface Interrupts {
  /** `low`, `high`: the halves of the INTERRUPT's own unique number. */
  retryLater(low: number, high: number): void
  /** No INTERRUPT is answered from now on: the device may be closed. */
  stop(): void
}

/** `device`: the FUSE device. */
export function createInterrupts(device: number, logger: Logger): Interrupts {
  const timers = new Set<NodeJS.Timeout>()
  let stopped = false

  function answer(low: number, high: number): void {
    const header = new Int32Array(OUT_HEADER_BYTES / 4)
    header[OUT.LENGTH] = OUT_HEADER_BYTES
    header[OUT.ERROR] = -constants.errno.EAGAIN
    header[OUT.UNIQUE] = low
    header[OUT.UNIQUE + 1] = high
    try {
      writeSync(device, header)
    } catch (err) {
      // The request was answered meanwhile, or the mount is gone.
      logger.debug({ err }, 'the kernel refused the reply to an INTERRUPT')
    }
  }

  return {
    retryLater(low, high) {
      if (stopped) return
      const timer = setTimeout(() => {
        timers.delete(timer)
        answer(low, high)
      }, AGAIN_AFTER_MS)
      timer.unref()
      timers.add(timer)
    },
    stop() {
      stopped = true
      for (const timer of timers) clearTimeout(timer)
      timers.clear()
    },
  }
}
