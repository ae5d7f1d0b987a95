/** Reads what a role answers to Prometheus. */
import { ROLES, type Role } from '../support/fleet-roles.ts'

export interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Scrape {
  readonly text: string
  /** By the name of the metric: `counter`, `gauge`, `histogram`, `summary`. */
  readonly types: ReadonlyMap<string, string>
  readonly series: readonly Series[]
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g

export function parseScrape(text: string): Scrape {
  const lines = text.split('\n')
  const types = new Map<string, string>()
  const series: Series[] = []
  for (const line of lines) {
    const type = /^# TYPE (\S+) (\S+)$/.exec(line)
    if (type !== null) types.set(type[1] ?? '', type[2] ?? '')
    const sample = line.startsWith('#') ? null : LINE.exec(line)
    if (sample === null) continue
    const labels = Object.fromEntries(
      Array.from((sample[2] ?? '').matchAll(LABEL), ([, label = '', value = '']) => [label, value]),
    )
    series.push({ name: sample[1] ?? '', labels, value: Number(sample[3]?.replace('+Inf', 'Infinity')) })
  }
  return { text, types, series }
}

/** @throws Error when it is not answered by 200 */
export async function scrape(url: string): Promise<Scrape> {
  const response = await fetch(`${url}/metrics`)
  const text = await response.text()
  if (response.status !== 200) throw new Error(`${url}/metrics answered ${response.status}: ${text}`)
  return parseScrape(text)
}

/** Of all roles. */
export async function scrapeFleet(fleet: { metricsUrl(role: Role): string }): Promise<Map<Role, Scrape>> {
  const scrapes = await Promise.all(ROLES.map((role) => scrape(fleet.metricsUrl(role))))
  return new Map(ROLES.map((role, index) => [role, scrapes[index] as Scrape]))
}

/** The value of the one series with these labels; undefined: there is none. */
export function sampleOf(
  { series }: Scrape,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  return series.find(
    (one) =>
      one.name === name && Object.entries(labels).every(([label, value]) => one.labels[label] === value),
  )?.value
}
