/** How the thread that serves the device receives messages from the other thread although it sleeps in the device. */

/**
 * The sleep protocol. The serving thread calls `fallAsleep` before it blocks and `wakeUp` after. A sender first counts its
 * message, and wakes the thread only when the flag of `fallAsleep` is set, which it clears.
 */
export interface Mailbox {
  /** Whether there are undelivered messages. */
  waiting(): boolean
  /** Announces that the thread is about to block; false, and it must not block, when messages are waiting. */
  fallAsleep(): boolean
  wakeUp(): void
  /** Delivers all waiting messages to their receivers. */
  deliver(): void
}
