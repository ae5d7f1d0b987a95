/**
 * A gauge whose values have to be asked for, of a store or a broker that may be away. While it does not answer, the values are
 * missing, which Prometheus shows as such; the other metrics do not wait for it.
 */
import { Gauge, type Registry } from 'prom-client'

export interface QuietGaugeOptions<Label extends string> {
  readonly name: string
  readonly help: string
  readonly labelNames?: readonly Label[]
  readonly registers: readonly Registry[]
  /** All values that there are now. */
  readonly read: () => Promise<readonly (readonly [labels: Partial<Record<Label, string>>, value: number])[]>
}

/** How long the values are waited for. Milliseconds. */
const READ_MS = 1_000

export class QuietGauge<Label extends string> extends Gauge<Label> {
  constructor({ name, help, labelNames = [], registers, read }: QuietGaugeOptions<Label>) {
    /** At most one at a time: a source that hangs is not asked again and again. */
    let reading: ReturnType<typeof read> | undefined
    super({
      name,
      help,
      labelNames: [...labelNames],
      registers: [...registers],
      async collect() {
        reading ??= read().finally(() => {
          reading = undefined
        })
        const values = await inTime(reading)
        this.reset()
        // Without labels a reset is the value 0.
        if (labelNames.length === 0) this.remove()
        for (const [labels, value] of values ?? []) this.set(labels, value)
      },
    })
  }
}

/** Undefined: it failed, or was late. */
async function inTime<T>(work: Promise<T>): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(resolve, READ_MS, undefined)
  try {
    return await Promise.race([work, late])
  } catch {
    return undefined
  } finally {
    clearTimeout(timer)
  }
}
