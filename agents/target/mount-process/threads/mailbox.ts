/**
 * Messages to a thread that sleeps in a system call. The event loop does not run in such a thread, so it does not notice
 * messages; two words of shared memory and a wake-up of that system call replace it.
 *
 * No message is missed: the sender posts, increments the count, then checks whether the receiver sleeps; the receiver sets
 * its flag, then checks the count. Atomic operations are sequentially consistent, so at least one side sees the other's
 * write.
 */

import { type MessagePort, receiveMessageOnPort, type Transferable } from 'node:worker_threads'
import type { Mailbox } from '../../filesystem/drivers/kernel/mailbox.ts'

/** Words of the shared memory. */
const POSTED = 0
const ASLEEP = 1

/** Creates the memory that both threads share. */
export function sharedMailState(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT))
}

/** The sender's side. `wake` wakes the receiver; it is called only when that sleeps. */
export function createSender(
  port: MessagePort,
  state: Int32Array<SharedArrayBuffer>,
  wake: () => void,
): (message: unknown, transfer?: readonly Transferable[]) => void {
  return (message, transfer = []) => {
    port.postMessage(message, transfer)
    Atomics.add(state, POSTED, 1)
    if (Atomics.compareExchange(state, ASLEEP, 1, 0) === 1) wake()
  }
}

export interface MailboxOptions {
  readonly port: MessagePort
  readonly state: Int32Array<SharedArrayBuffer>
  readonly receive: (message: unknown) => void
  /** Called before every sleep. */
  readonly beforeSleep?: () => void
}

/** The receiver's side. */
export function createMailbox({ port, state, receive, beforeSleep }: MailboxOptions): Mailbox {
  let seen = 0
  const waiting = (): boolean => Atomics.load(state, POSTED) !== seen

  return {
    waiting,

    fallAsleep(): boolean {
      beforeSleep?.()
      Atomics.store(state, ASLEEP, 1)
      if (!waiting()) return true
      Atomics.store(state, ASLEEP, 0)
      return false
    },

    wakeUp(): void {
      Atomics.store(state, ASLEEP, 0)
    },

    deliver(): void {
      // A message posted from here on counts as new although the loop may already deliver it: that costs one empty pass.
      seen = Atomics.load(state, POSTED)
      for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
        receive(got.message)
      }
    },
  }
}
