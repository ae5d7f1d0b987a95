/** How the command line writes sizes, rates, durations and times for a person. Pure functions. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const

/** Bytes with a decimal unit and three digits: `0 B`, `999 B`, `1.50 GB`, `62.4 MB`. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  if (unit === 0) return `${value} B`
  return `${threeDigits(value)} ${UNITS[unit]}`
}

/** Done of total, with the unit once where both have it: `12.4 of 62.0 MB`. */
export function formatShare(done: number, total: number): string {
  const [doneNumber, doneUnit] = formatBytes(done).split(' ')
  const [totalNumber, totalUnit] = formatBytes(total).split(' ')
  if (doneUnit === totalUnit) return `${doneNumber} of ${totalNumber} ${totalUnit}`
  return `${doneNumber} ${doneUnit} of ${totalNumber} ${totalUnit}`
}

/** `bytesPerSecond` as a rate: `31.2 MB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(Math.round(bytesPerSecond))}/s`
}

/** Milliseconds as a person says them: `0.04 s`, `1.25 s`, `12.4 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, milliseconds) / 1000
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`
  const hours = Math.floor(minutes / 60)
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** How long ago, in one unit: `now`, `12 s ago`, `3 min ago`, `5 h ago`, `12 d ago`. */
export function formatAge(time: Date, now: Date): string {
  const seconds = Math.floor((now.getTime() - time.getTime()) / 1000)
  if (seconds < 1) return 'now'
  if (seconds < 60) return `${seconds} s ago`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h ago`
  return `${Math.floor(seconds / 86400)} d ago`
}

/** Local time with its offset, the way PostgreSQL writes and reads it: `2025-11-22 07:33:10+01`. */
export function formatTime(time: Date): string {
  const offset = -time.getTimezoneOffset()
  const hours = two(Math.floor(Math.abs(offset) / 60))
  const minutes = Math.abs(offset) % 60
  const zone = `${offset < 0 ? '-' : '+'}${hours}${minutes === 0 ? '' : `:${two(minutes)}`}`
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${formatClock(time)}${zone}`
}

/** Local and UTC time and the age: `2025-11-22 07:33:10+01 (06:33:10 UTC, 3 min ago)`. */
export function formatTimeFully(time: Date, now: Date): string {
  const age = formatAge(time, now)
  if (time.getTimezoneOffset() === 0) return `${formatTime(time)} (${age})`
  const utc = time.toISOString()
  const sameDay = time.getDate() === time.getUTCDate()
  const utcText = sameDay ? utc.slice(11, 19) : utc.slice(0, 19).replace('T', ' ')
  return `${formatTime(time)} (${utcText} UTC, ${age})`
}

/** Local time of day: `07:33:10`. */
export function formatClock(time: Date): string {
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
}

/** `1 backup`, `3 backups`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

function threeDigits(value: number): string {
  if (value >= 99.95) return value.toFixed(0)
  if (value >= 9.995) return value.toFixed(1)
  return value.toFixed(2)
}

function two(value: number): string {
  return String(value).padStart(2, '0')
}
