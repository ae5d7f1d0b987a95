/**
 * When an operator is warned that the space for a session's changes, or its time, runs out: a pure function of the
 * warnings so far and of the present state. Each level has a threshold to reach and a lower one to leave (hysteresis), so
 * that a session near a threshold does not raise the same warning repeatedly.
 */
import { formatBytes } from '../messages/format-bytes.ts'
import type { SpaceWarning, Usage } from '../messages/values.ts'

type About = SpaceWarning['about']
type Level = SpaceWarning['level']

interface Threshold {
  readonly level: Exclude<Level, 'cleared'>
  readonly reach: number
  readonly leave: number
}

/** Most severe first; fractions of the quota used, of the free space above the reserve that is missing, of the time elapsed. */
const THRESHOLDS: Readonly<Record<About, readonly Threshold[]>> = {
  quota: [
    { level: 'critical', reach: 0.95, leave: 0.9 },
    { level: 'low', reach: 0.8, leave: 0.75 },
  ],
  'free-space': [
    { level: 'critical', reach: 1, leave: 0.75 },
    { level: 'low', reach: 0, leave: -0.25 },
  ],
  expiry: [
    { level: 'critical', reach: 0.95, leave: 0.95 },
    { level: 'low', reach: 0.75, leave: 0.75 },
  ],
}

/** The warnings of the history that are in force now. */
export function activeWarnings(history: readonly SpaceWarning[]): SpaceWarning[] {
  return (['quota', 'free-space', 'expiry'] as const)
    .map((about) => history.findLast((warning) => warning.about === about))
    .filter((warning) => warning !== undefined && warning.level !== 'cleared') as SpaceWarning[]
}

/** The warnings of space that the history does not have yet. A subject that the usage leaves out keeps its level. */
export function newSpaceWarnings(
  history: readonly SpaceWarning[],
  usage: Usage,
  now: string,
): SpaceWarning[] {
  return raise(history, subjects(usage), now)
}

/** The warnings of expiry that the history does not have yet. `expires`: undefined for a session without an expiry. */
export function newExpiryWarnings(
  history: readonly SpaceWarning[],
  expires: { readonly at: string; readonly setAt: string } | undefined,
  now: string,
): SpaceWarning[] {
  const [from, to] = [Date.parse(expires?.setAt ?? now), Date.parse(expires?.at ?? now)]
  const elapsed = expires === undefined ? 0 : (Date.parse(now) - from) / Math.max(1, to - from)
  const message = (level: Level): string =>
    level === 'cleared'
      ? `The session lives ${expires === undefined ? 'until it is unpublished' : `until ${expires.at}`}.`
      : `The session is unpublished at ${expires?.at}, with what was changed in it; "howdah extend" lets it live longer.`
  return raise(history, [{ about: 'expiry', fullness: elapsed, message }], now)
}

/**
 * When `newExpiryWarnings` is to be asked next, or the session has expired: milliseconds since the epoch. Undefined: never.
 */
export function nextExpiryCheck(
  history: readonly SpaceWarning[],
  expires: { readonly at: string; readonly setAt: string } | undefined,
): number | undefined {
  const last = history.findLast(({ about }) => about === 'expiry')
  const level = last?.level ?? 'cleared'
  if (!expires) return level === 'cleared' ? undefined : 0
  const [from, to] = [Date.parse(expires.setAt), Date.parse(expires.at)]
  // A warning about an expiry that was set before this one no longer holds.
  if (level !== 'cleared' && last && Date.parse(last.at) <= from) return from
  const next = THRESHOLDS.expiry.findLast(({ level: reached }) => SEVERITY[reached] > SEVERITY[level])
  return next ? Math.ceil(from + next.reach * (to - from)) : to
}

const SEVERITY: Readonly<Record<Level, number>> = { cleared: 0, low: 1, critical: 2 }

function raise(history: readonly SpaceWarning[], found: readonly Subject[], now: string): SpaceWarning[] {
  const raised: SpaceWarning[] = []
  for (const { about, fullness, message } of found) {
    const before = history.findLast((warning) => warning.about === about)?.level ?? 'cleared'
    const level = levelOf(about, fullness, before)
    if (level !== before) raised.push({ about, level, message: message(level), at: now })
  }
  return raised
}

interface Subject {
  readonly about: About
  /** In the measure of `THRESHOLDS`. */
  readonly fullness: number
  readonly message: (level: Level) => string
}

function subjects({ changedBytes, quotaBytes, freeBytes, reserveBytes }: Usage): Subject[] {
  const found: Subject[] = []
  if (changedBytes !== undefined && quotaBytes !== undefined) {
    const share = quotaBytes === null ? 0 : quotaBytes === 0 ? 1 : changedBytes / quotaBytes
    found.push({ about: 'quota', fullness: share, message: quotaMessage(changedBytes, quotaBytes, share) })
  }
  if (freeBytes !== undefined && reserveBytes !== undefined) {
    const missing = reserveBytes === 0 ? (freeBytes === 0 ? 1 : -1) : 1 - freeBytes / reserveBytes
    found.push({ about: 'free-space', fullness: missing, message: spaceMessage(freeBytes, reserveBytes) })
  }
  return found
}

function levelOf(about: About, fullness: number, before: Level): Level {
  for (const { level, reach, leave } of THRESHOLDS[about]) {
    const holds = level === before || before === 'critical'
    if (fullness >= reach || (holds && fullness > leave)) return level
  }
  return 'cleared'
}

const CONSEQUENCE = 'writes that need more get "No space left on device"'

function quotaMessage(changed: number, quota: number | null, share: number): (level: Level) => string {
  const amount = `${formatBytes(changed)} of the quota of ${formatBytes(quota ?? 0)} (${Math.floor(share * 100)} %)`
  return (level) =>
    level === 'cleared'
      ? `There is room again: the changes take ${quota === null ? formatBytes(changed) : amount}.`
      : `The changes take ${amount}; past it, ${CONSEQUENCE}. Drop or truncate what is not needed, or raise cache.quotaBytes or limits.cacheBytes of the target agent, and restart that.`
}

function spaceMessage(free: number, reserve: number): (level: Level) => string {
  const amount = `${formatBytes(free)} above the reserve of ${formatBytes(reserve)}`
  return (level) =>
    level === 'cleared'
      ? `There is room again on the file system of the write cache: ${amount}.`
      : `The file system of the write cache has ${amount} free; when that is used, ${CONSEQUENCE}. Make room on the target.`
}
