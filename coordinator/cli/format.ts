/** How the command line writes shares of sizes, rates, durations and times for a person. Pure functions. */

import { formatBytes } from '../../messages/format-bytes.ts'

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

/** Milliseconds for people: `0.04 s`, `1.25 s`, `12.4 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`. */
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

/** How long ago or ahead, in one unit: `now`, `12 s ago`, `3 min ago`, `in 5 h`, `12 d ago`. */
export function formatAge(time: Date, now: Date): string {
  const milliseconds = now.getTime() - time.getTime()
  const seconds = Math.floor(Math.abs(milliseconds) / 1000)
  if (seconds < 1) return 'now'
  return milliseconds > 0 ? `${oneUnit(seconds)} ago` : `in ${oneUnit(seconds)}`
}

function oneUnit(seconds: number): string {
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86400)} d`
}

/** Local time with its offset, the way PostgreSQL writes and reads it: `2025-11-22 07:33:10+01`. */
export function formatTime(time: Date): string {
  const offset = -time.getTimezoneOffset()
  const hours = two(Math.floor(Math.abs(offset) / 60))
  const minutes = Math.abs(offset) % 60
  const zone = `${offset < 0 ? '-' : '+'}${hours}${minutes === 0 ? '' : `:${two(minutes)}`}`
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${formatClock(time)}${zone}`
}

/** Local and UTC time: `2025-11-22 07:33:10+01 (06:33:10 UTC)`; once if they are the same. */
export function formatMoment(time: Date): string {
  return time.getTimezoneOffset() === 0
    ? `${utcText(time)} UTC`
    : `${formatTime(time)} (${utcText(time)} UTC)`
}

/** Local and UTC time and the age: `2025-11-22 07:33:10+01 (06:33:10 UTC, 3 min ago)`. */
export function formatTimeFully(time: Date, now: Date): string {
  const age = formatAge(time, now)
  return time.getTimezoneOffset() === 0
    ? `${utcText(time)} UTC (${age})`
    : `${formatTime(time)} (${utcText(time)} UTC, ${age})`
}

/** The time of day in UTC; with the date if the local date differs, or if local time is UTC. */
export function utcText(time: Date): string {
  const utc = formatUtc(time)
  const isSameDay = time.getTimezoneOffset() !== 0 && time.getDate() === time.getUTCDate()
  return isSameDay ? utc.slice(11) : utc
}

/** Date and time of day in UTC: `2025-11-22 06:33:10`. */
export function formatUtc(time: Date): string {
  return time.toISOString().slice(0, 19).replace('T', ' ')
}

/** Local time of day: `07:33:10`. */
export function formatClock(time: Date): string {
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
}

/** `1 backup`, `3 backups`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

function two(value: number): string {
  return String(value).padStart(2, '0')
}
