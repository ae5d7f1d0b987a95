/** How the thread that serves the device hears from the other thread while it sleeps in the device. */

/**
 * The sleep protocol. The serving thread calls `fallAsleep` before it blocks and `wakeUp` after; whoever sends mail
 * counts it first, and knocks on the device only when it finds the flag of `fallAsleep` set, which it takes away.
 */
export interface Mailbox {
  /** Whether there is mail that was not delivered. */
  waiting(): boolean
  /** Says that the thread is about to block; false, and no sleep, when mail waits. */
  fallAsleep(): boolean
  wakeUp(): void
  /** Hands out all mail that waits: promises are resolved, timers run. */
  deliver(): void
}
