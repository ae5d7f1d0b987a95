/**
 * What the demo has on the machine, told by names that only it uses: processes, mounts and directories. Finds what is
 * left of them, and removes it by force when the orderly way failed.
 */
import { execFile } from 'node:child_process'
import { existsSync, readlinkSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type MachineProcess, mountInventory, processes } from '../support/inventory.ts'

const run = promisify(execFile)
/** What was told to end may take a moment. */
const GRACE_MS = 10_000

export interface DemoResources {
  /** Names a word that occurs in everything of ours: a directory, a session id. */
  addName(name: string): void
  /** A directory that has to be gone in the end. */
  addDirectory(path: string): void
  /** What is left, as a person finds it; waits a moment for what is about to end. */
  remaining(): Promise<string[]>
  /** Ends, unmounts and deletes all of it. */
  removeByForce(): Promise<void>
}

export function createDemoResources(): DemoResources {
  const names = new Set<string>()
  const directories = new Set<string>()

  const isOurs = (text: string) => [...names].some((name) => text.includes(name))
  const ourProcesses = () =>
    processes().filter(
      (one) =>
        one.pid !== process.pid &&
        (isOurs(one.command.join(' ')) || isOurs(one.environment.join(' ')) || isOurs(workingDirectory(one))),
    )
  const ourMounts = () => [...mountInventory().values()].filter(isOurs)
  const look = () => [
    ...ourProcesses().map((one) => `process ${one.pid}: ${one.command.join(' ').slice(0, 120)}`),
    ...ourMounts(),
    ...[...directories].filter((path) => existsSync(path)),
  ]

  async function waitUntilGone(deadline: number): Promise<string[]> {
    let found = look()
    while (found.length > 0 && Date.now() < deadline) {
      await sleep(100)
      found = look()
    }
    return found
  }

  return {
    addName: (name) => void names.add(name),
    addDirectory: (path) => void directories.add(path),
    remaining: () => waitUntilGone(Date.now() + GRACE_MS),

    async removeByForce() {
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        for (const { pid } of ourProcesses()) {
          try {
            process.kill(pid, signal)
          } catch {}
        }
        const deadline = Date.now() + 3_000
        while (ourProcesses().length > 0 && Date.now() < deadline) await sleep(50)
      }
      for (const mount of ourMounts()) {
        const target = mount.split(' ')[1] ?? ''
        await run('umount', ['-l', target]).catch(() => undefined)
      }
      // A tree that is still mounted is never deleted: what is below may be somebody's backup.
      if (ourMounts().length > 0) return
      for (const path of directories) await rm(path, { recursive: true, force: true })
    },
  }
}

function workingDirectory({ pid }: MachineProcess): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    return ''
  }
}
