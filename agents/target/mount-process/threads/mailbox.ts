/**
 * Mail for a thread that sleeps in a system call. The event loop does not turn in such a thread, so nothing tells it of
 * a message; two words of shared memory do, and a knock on what it sleeps in.
 *
 * No mail is slept over: the sender posts, counts, and then looks whether the receiver sleeps; the receiver says that it
 * sleeps and then looks at the count. Atomic operations have one order that both see, so at least one of the two sees
 * the other.
 */

import { type MessagePort, receiveMessageOnPort, type Transferable } from 'node:worker_threads'
import type { Mailbox } from '../../filesystem/drivers/kernel/mailbox.ts'

/** Words of the shared memory. */
const POSTED = 0
const ASLEEP = 1

/** Makes what both threads share. */
export function sharedMailState(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT))
}

/** The sender's side. `knock` wakes the receiver from its sleep; it is called from here only when that sleeps. */
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
      // What is posted from here on counts as new, though the loop may find it: that costs one vain look.
      seen = Atomics.load(state, POSTED)
      for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
        receive(got.message)
      }
    },
  }
}
