/**
 * How often what is reported about a session is reported again although nothing has changed: so a report that got lost, or
 * that reached a store which was restored later, becomes true there all the same. Milliseconds.
 */

/** What is as it should be. */
export const REPEAT_MS = 600_000
/** A mount server that is out of reach. */
export const REPEAT_TROUBLE_MS = 60_000
/** Usage that no longer changes, once; the reports before were of use for a short time only. */
export const REPEAT_SETTLED_MS = 50_000
/** A session that lost its mount or its server, until the coordinator does something about it. */
export const REPEAT_LOST_MS = 15_000
