/**
 * When an operator is warned that the room for a session's changes, or its time, runs out: a pure function of what was
 * said before and of what is. Each level has a threshold to reach and a lower one to leave, so that a
 * session that hovers about one is not told of again and again.
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

/** Gravest first; shares of the quota that is used, of the reserve that is missing above the reserve, of the time that is over. */
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

/** What of the history holds now. */
export function standingWarnings(history: readonly SpaceWarning[]): SpaceWarning[] {
  return (['quota', 'free-space', 'expiry'] as const)
    .map((about) => history.findLast((warning) => warning.about === about))
    .filter((warning) => warning !== undefined && warning.level !== 'cleared') as SpaceWarning[]
}

/** What is to be told of room that the history does not say already. Matters of which the usage says nothing stay. */
export function newSpaceWarnings(
  history: readonly SpaceWarning[],
  usage: Usage,
  now: string,
): SpaceWarning[] {
  return raise(history, matters(usage), now)
}

/** What is to be told of the time that is left. `expires`: undefined for a session that lives until it is unpublished. */
export function newExpiryWarnings(
  history: readonly SpaceWarning[],
  expires: { readonly at: string; readonly setAt: string } | undefined,
  now: string,
): SpaceWarning[] {
  const [from, to] = [Date.parse(expires?.setAt ?? now), Date.parse(expires?.at ?? now)]
  const over = expires === undefined ? 0 : (Date.parse(now) - from) / Math.max(1, to - from)
  const words = (level: Level): string =>
    level === 'cleared'
      ? `The session lives ${expires === undefined ? 'until it is unpublished' : `until ${expires.at}`}.`
      : `The session is unpublished at ${expires?.at}, with what was changed in it; "howdah extend" lets it live longer.`
  return raise(history, [{ about: 'expiry', fullness: over, words }], now)
}

function raise(history: readonly SpaceWarning[], found: readonly Matter[], now: string): SpaceWarning[] {
  const raised: SpaceWarning[] = []
  for (const { about, fullness, words } of found) {
    const before = history.findLast((warning) => warning.about === about)?.level ?? 'cleared'
    const level = levelOf(about, fullness, before)
    if (level !== before) raised.push({ about, level, message: words(level), at: now })
  }
  return raised
}

interface Matter {
  readonly about: About
  /** In the measure of `THRESHOLDS`. */
  readonly fullness: number
  readonly words: (level: Level) => string
}

function matters({ changedBytes, quotaBytes, freeBytes, reserveBytes }: Usage): Matter[] {
  const found: Matter[] = []
  if (changedBytes !== undefined && quotaBytes !== undefined) {
    const share = quotaBytes === null ? 0 : quotaBytes === 0 ? 1 : changedBytes / quotaBytes
    found.push({ about: 'quota', fullness: share, words: quotaWords(changedBytes, quotaBytes, share) })
  }
  if (freeBytes !== undefined && reserveBytes !== undefined) {
    const missing = reserveBytes === 0 ? (freeBytes === 0 ? 1 : -1) : 1 - freeBytes / reserveBytes
    found.push({ about: 'free-space', fullness: missing, words: spaceWords(freeBytes, reserveBytes) })
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

function quotaWords(changed: number, quota: number | null, share: number): (level: Level) => string {
  const amount = `${formatBytes(changed)} of the quota of ${formatBytes(quota ?? 0)} (${Math.floor(share * 100)} %)`
  return (level) =>
    level === 'cleared'
      ? `There is room again: the changes take ${quota === null ? formatBytes(changed) : amount}.`
      : `The changes take ${amount}; past it, ${CONSEQUENCE}. Drop or truncate what is not needed, or raise cache.quotaBytes or limits.cacheBytes of the target agent, and restart that.`
}

function spaceWords(free: number, reserve: number): (level: Level) => string {
  const amount = `${formatBytes(free)} above the reserve of ${formatBytes(reserve)}`
  return (level) =>
    level === 'cleared'
      ? `There is room again on the file system of the write cache: ${amount}.`
      : `The file system of the write cache has ${amount} free; when that is used, ${CONSEQUENCE}. Make room on the target.`
}
