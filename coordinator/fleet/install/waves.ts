/** In which order many hosts are changed: in waves, each as large as allowed, and none after one that is not well. Pure but for the work. */

/** `10%` of the hosts, at least one; or a number of them. */
export type BatchSize = { readonly percent: number } | { readonly hosts: number }

export interface WaveOutcome<Host> {
  readonly done: readonly Host[]
  readonly failed: readonly { readonly host: Host; readonly error: unknown }[]
  /** Of the waves that were not begun. */
  readonly untouched: readonly Host[]
}

/** Undefined: it is none. */
export function parseBatchSize(text: string): BatchSize | undefined {
  const [, digits, percent] = /^(\d{1,6})(%)?$/.exec(text) ?? []
  const number = Number(digits)
  if (digits === undefined || number < 1 || (percent !== undefined && number > 100)) return undefined
  return percent === undefined ? { hosts: number } : { percent: number }
}

export function wavesOf<Host>(hosts: readonly Host[], batch: BatchSize): Host[][] {
  const size = 'hosts' in batch ? batch.hosts : Math.max(1, Math.floor((hosts.length * batch.percent) / 100))
  return Array.from({ length: Math.ceil(hosts.length / size) }, (_, index) =>
    hosts.slice(index * size, (index + 1) * size),
  )
}

/**
 * The hosts of a wave are changed at the same time, and all of them to the end. The next wave begins when all are well.
 * @param change rejects when the host is not well afterwards
 */
export async function inWaves<Host>(
  waves: readonly (readonly Host[])[],
  change: (host: Host) => Promise<void>,
  begin: (wave: readonly Host[], number: number) => void,
): Promise<WaveOutcome<Host>> {
  const done: Host[] = []
  for (const [index, wave] of waves.entries()) {
    begin(wave, index + 1)
    const results = await Promise.allSettled(wave.map(change))
    const failed: { host: Host; error: unknown }[] = []
    for (const [at, host] of wave.entries()) {
      const result = results[at]
      if (result?.status === 'rejected') failed.push({ host, error: result.reason })
      else done.push(host)
    }
    if (failed.length > 0) return { done, failed, untouched: waves.slice(index + 1).flat() }
  }
  return { done, failed: [], untouched: [] }
}
