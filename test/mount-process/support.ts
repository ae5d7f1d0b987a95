/** Starts the sleeping thread of sleeper.ts. */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { MessageChannel, Worker } from 'node:worker_threads'
import { FileSystemError } from '../../agents/target/filesystem/file-system.ts'
import { type CallMessage, type Calls, createCalls } from '../../agents/target/mount-process/threads/calls.ts'
import { createSender, sharedMailState } from '../../agents/target/mount-process/threads/mailbox.ts'
import { HowdahError } from '../../messages/errors.ts'

export interface SleeperData {
  readonly fd: number
  readonly state: Int32Array<SharedArrayBuffer>
}

/** What the main thread offers. */
export type TestCalls = {
  increment(value: number): number
  fail(kind: string): never
}

/** What the sleeper offers. */
export type SleeperCalls = {
  double(value: number): number
  length(bytes: Buffer): number
  roundTrip(value: number): number
  fail(kind: string): never
  requests(): number
}

export interface Sleeper {
  readonly calls: Calls<SleeperCalls>
  readonly wakeups: number
  /** A request on the pipe, as a client of the mount makes one. */
  request(): void
  end(): Promise<void>
}

export function startSleeper(): Sleeper {
  const directory = mkdtempSync('/tmp/howdah-sleeper-')
  execFileSync('mkfifo', [`${directory}/pipe`])
  const fd = openSync(`${directory}/pipe`, constants.O_RDWR)
  rmSync(directory, { recursive: true })
  const state = sharedMailState()
  const { port1, port2 } = new MessageChannel()
  const worker = new Worker(new URL('./sleeper.ts', import.meta.url), {
    workerData: { fd, state, port: port2 },
    transferList: [port2],
  })
  let wakeups = 0
  const wake = () => {
    wakeups++
    writeSync(fd, 'k')
  }
  const failures: Readonly<Record<string, () => Error>> = {
    howdah: () => new HowdahError('backup_damaged', 'file x of backup y'),
    'file-system': () => new FileSystemError('ENOSPC', 'full'),
    system: () => Object.assign(new Error('disk'), { code: 'EDQUOT' }),
  }
  const calls = createCalls<SleeperCalls>(
    {
      increment: (value: number) => value + 1,
      fail: (kind: string) => {
        throw failures[kind]?.()
      },
    },
    createSender(port1, state, wake),
  )
  port1.on('message', (message: CallMessage) => calls.receive(message))
  const ended = new Promise<void>((resolve, reject) => {
    worker.once('error', reject)
    worker.once('exit', () => resolve())
  })
  return {
    calls,
    get wakeups() {
      return wakeups
    },
    request: () => void writeSync(fd, 'r'),
    async end() {
      writeSync(fd, 'q')
      await ended
      port1.close()
      closeSync(fd)
    },
  }
}
