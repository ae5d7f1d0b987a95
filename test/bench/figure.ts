/** Owns one measured figure of the bench: Howdah's value, that of the alternative, and the target. */

export type Unit = 's' | 'ms' | '/s' | 'MB/s' | 'MiB' | 'transactions' | '×'

export interface Figure {
  readonly name: string
  readonly unit: Unit
  /** Which way is better. */
  readonly better: 'more' | 'less'
  /** One value per repetition, in the order in which they were taken. */
  readonly howdah: readonly number[]
  /** Measured in turns with Howdah's, so that values of one index were taken within the same minutes. */
  readonly instead?: { readonly what: string; readonly values: readonly number[] }
  readonly target?: Target
}

/** `value`: the median, at least or at most as `Figure.better` says. `ratio`: how many times as good, at least. */
export interface Target {
  readonly of: 'value' | 'ratio'
  readonly limit: number
}

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

/** NaN of nothing; of an even number the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const [lower, upper] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]]
  return lower === undefined || upper === undefined ? Number.NaN : (lower + upper) / 2
}

/**
 * How many times as good as the alternative: the median over pairs of neighbouring runs, because the speed of a shared
 * machine changes from minute to minute. Undefined without an alternative.
 */
export function ratio({ howdah, instead, better }: Figure): number | undefined {
  if (instead === undefined) return undefined
  const pairs = howdah.flatMap((value, index) => {
    const other = instead.values[index]
    if (other === undefined) return []
    return [better === 'more' ? value / other : other / value]
  })
  return median(pairs)
}

/** Undefined without a target. */
export function isMet(figure: Figure): boolean | undefined {
  const { target, better } = figure
  if (target === undefined) return undefined
  if (target.of === 'ratio') return (ratio(figure) ?? Number.NaN) >= target.limit
  const value = median(figure.howdah)
  return better === 'more' ? value >= target.limit : value <= target.limit
}

/** The target in words: `≥ 0.95 ×`, `≤ 1.2 s`. Empty without one. */
export function targetText({ target, better, unit }: Figure): string {
  if (target === undefined) return ''
  if (target.of === 'ratio') return `≥ ${target.limit} ×`
  return `${better === 'more' ? '≥' : '≤'} ${formatNumber(target.limit)} ${unit}`.replace(' /s', '/s')
}

/** Three significant digits, with separators of thousands. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US')
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2)
}

/** `1.25 s`, `12,345/s`. */
export function formatValue(value: number, unit: Unit): string {
  return unit === '/s' ? `${formatNumber(value)}/s` : `${formatNumber(value)} ${unit}`
}
