/**
 * The process that makes the model test's system calls in two directories (posix-worker.py). A hanging mount blocks
 * only that process: its answer is late, and the test fails.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Operation } from './operations.ts'

const SCRIPT = fileURLToPath(new URL('./posix-worker.py', import.meta.url))
const DEADLINE_MS = 60_000

/** Where the mount and the plain directory differ. */
export interface Difference {
  /** Of the operation in its sequence. */
  readonly index: number
  readonly op: Operation
  readonly mount: unknown
  readonly plain: unknown
  /** The first byte that differs, where contents do. */
  readonly where?: unknown
}

export class MountHangs extends Error {}

export interface PosixWorker {
  /** Two directories that hold the same; `exact`: times too. */
  begin(mount: string, plain: string, exact: boolean): Promise<void>
  /** The first difference. @throws MountHangs when there is no answer in time */
  run(operations: readonly Operation[]): Promise<Difference | undefined>
  /** Closes every file that is open. */
  closeFiles(): Promise<void>
  /** Ends the process, at once. */
  end(): void
}

/** Starts the process, which makes its calls as the given user. */
export function startPosixWorker(account: { uid: number; gid: number }): PosixWorker {
  const child = spawn('python3', ['-u', SCRIPT, String(account.uid), String(account.gid)], {
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  child.stdin.on('error', () => undefined)
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()

  async function ask(order: object): Promise<Difference | undefined> {
    child.stdin.write(`${JSON.stringify(order)}\n`)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        child.kill('SIGKILL')
        const shown = JSON.stringify(order).slice(0, 2000)
        reject(new MountHangs(`no answer within ${DEADLINE_MS} ms, the mount hangs: ${shown}`))
      }, DEADLINE_MS)
    })
    try {
      const { value, done } = await Promise.race([answers.next(), late])
      if (done === true) throw new Error('posix-worker.py has ended')
      return (JSON.parse(value) as { difference: Difference | null }).difference ?? undefined
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    async begin(mount, plain, exact) {
      await ask({ begin: { mount, plain }, exact })
    },
    run: (operations) => ask({ run: operations }),
    async closeFiles() {
      await ask({ close: true })
    },
    end() {
      child.kill('SIGKILL')
    },
  }
}
