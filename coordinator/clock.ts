/** The time of day, handed in so that tests can set it. */

/** Milliseconds since the epoch. */
export type Clock = () => number

/** The present time as ISO 8601 in UTC, the format of every time in a session. */
export function timestamp(now: Clock): string {
  return new Date(now()).toISOString()
}
