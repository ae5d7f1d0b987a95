/**
 * The processes, mounts and directories of the demo, identified by names that only it uses. Finds those that remain, and
 * removes them by force if the orderly cleanup failed.
 */
import { execFile } from 'node:child_process'
import { existsSync, readlinkSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type MachineProcess, mountInventory, processes } from '../support/inventory.ts'

const run = promisify(execFile)
/** Time for processes to end after a request to stop. */
const GRACE_MS = 10_000

export interface DemoResources {
  /** Adds a word that identifies resources of the demo: a directory, a session id. */
  addName(name: string): void
  /** Adds a directory that must not exist in the end. */
  addDirectory(path: string): void
  /** Describes what remains after a grace period. */
  remaining(): Promise<string[]>
  /** Kills, unmounts and deletes all of it. */
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
      // Never delete a tree that is still mounted: a backup may be below it.
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
