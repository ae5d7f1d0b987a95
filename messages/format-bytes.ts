/** Sizes as people read them, with decimal units. Pure functions. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const

/** Three digits: `0 B`, `999 B`, `1.50 GB`, `62.4 MB`. */
export function formatBytes(bytes: number): string {
  const { value, unit } = scaled(bytes)
  return unit === 0 ? `${value} ${UNITS[unit]}` : `${threeDigits(value)} ${UNITS[unit]}`
}

/** An estimate, in which more digits would mean nothing: `0 B`, `1.5 GB`, `62 MB`. */
export function formatBytesRoughly(bytes: number): string {
  const { value, unit } = scaled(bytes)
  return `${value < 9.95 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`
}

/** Three significant digits of a number from 1 to 999.5. */
function threeDigits(value: number): string {
  if (value >= 99.95) return value.toFixed(0)
  if (value >= 9.995) return value.toFixed(1)
  return value.toFixed(2)
}

function scaled(bytes: number): { value: number; unit: number } {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  return { value, unit }
}
