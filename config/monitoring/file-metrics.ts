/** Metrics of files that a role needs: room in its directories, and until when its certificates are valid. */
import { X509Certificate } from 'node:crypto'
import { readFile, statfs } from 'node:fs/promises'
import type { Registry } from 'prom-client'
import { QuietGauge } from './quiet-gauge.ts'

/** `directories`: by the name that the label has; must be local ones, which answer. */
export function diskMetrics(registry: Registry, directories: Readonly<Record<string, string>>): void {
  const space = (amount: 'bavail' | 'blocks') => async () =>
    eachThatAnswers(Object.entries(directories), async ([directory, path]) => {
      const found = await statfs(path)
      return [{ directory }, found[amount] * found.bsize] as const
    })
  const options = { labelNames: ['directory'] as const, registers: [registry] }
  new QuietGauge({
    ...options,
    name: 'howdah_disk_available_bytes',
    help: 'Room on the file system of a directory of the role, for programs without root',
    read: space('bavail'),
  })
  new QuietGauge({
    ...options,
    name: 'howdah_disk_size_bytes',
    help: 'Size of that file system',
    read: space('blocks'),
  })
}

/** `files`: PEM files by the name that the label has; those that are null are not used. */
export function certificateMetrics(registry: Registry, files: Readonly<Record<string, string | null>>): void {
  new QuietGauge({
    name: 'howdah_certificate_expiry_timestamp_seconds',
    help: 'Until when a certificate in a file of the role is valid',
    labelNames: ['certificate'],
    registers: [registry],
    read: () =>
      eachThatAnswers(Object.entries(files), async ([certificate, file]) =>
        file === null ? undefined : ([{ certificate }, await expiryOf(file)] as const),
      ),
  })
}

/** The first certificate of the file; seconds since the epoch. */
async function expiryOf(file: string): Promise<number> {
  return Date.parse(new X509Certificate(await readFile(file)).validTo) / 1000
}

/** What `read` gives for each; those are missing for which it gives nothing, or that it cannot read. */
async function eachThatAnswers<Item, Value>(
  items: readonly Item[],
  read: (item: Item) => Promise<Value | undefined>,
): Promise<Value[]> {
  const values = await Promise.all(items.map((item) => read(item).catch(() => undefined)))
  return values.filter((value) => value !== undefined)
}
