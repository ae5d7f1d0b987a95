/**
 * A thread that sleeps in a pipe as an engine thread sleeps in the FUSE device: reads one byte at a time, serves the
 * mailbox in between, and calls back to the main thread. Byte `k` is a wakeup, `q` the end, every other one a request.
 */
import { readSync } from 'node:fs'
import { type MessagePort, workerData } from 'node:worker_threads'
import { type CallMessage, createCalls } from '../../agents/target/mount-process/threads/calls.ts'
import { createMailbox } from '../../agents/target/mount-process/threads/mailbox.ts'
import type { SleeperData, TestCalls } from './support.ts'

const { fd, port, state } = workerData as SleeperData & { port: MessagePort }
const calls = createCalls<TestCalls>(
  {
    double: (value: number) => value * 2,
    length: (bytes: Buffer) => bytes.length,
    /** Is answered only once the main thread has answered two calls, one after the other. */
    roundTrip: async (value: number) => calls.call('increment', await calls.call('increment', value)),
    fail: async (kind: string) => calls.call('fail', kind),
    requests: () => requests,
  },
  (message, transfer) => port.postMessage(message, transfer),
)
const mailbox = createMailbox({ port, state, receive: (message) => calls.receive(message as CallMessage) })
const byte = Buffer.alloc(1)
let requests = 0

for (let ended = false; !ended; ) {
  if (mailbox.waiting()) {
    mailbox.deliver()
    await new Promise((resolve) => setImmediate(resolve))
  }
  if (!mailbox.fallAsleep()) continue
  readSync(fd, byte, 0, 1, null)
  mailbox.wakeUp()
  ended = byte.toString() === 'q'
  if (byte.toString() === 'r') requests++
}
