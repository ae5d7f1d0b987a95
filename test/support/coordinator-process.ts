/** Owns one coordinator as a process of its own, with its configuration file and its log. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { cleanEnvironment, LAUNCHER } from './fleet-roles.ts'

export interface CoordinatorProcess {
  readonly process: ChildProcess
  /** Lines of its log. */
  readonly log: readonly string[]
  /** How often its log says that. */
  says(text: string): number
  isActive(): boolean
  /** Ends it, in whatever state it is. */
  kill(): Promise<void>
}

/** Resolves when it is ready, or has ended. */
export async function startCoordinator(
  directory: string,
  name: string,
  config: {
    readonly broker: object
    readonly store: object
    readonly authority?: object
    readonly log?: object
  },
  environment: Readonly<Record<string, string>> = {},
): Promise<CoordinatorProcess> {
  const file = path.join(directory, `${name}.json`)
  await writeFile(file, JSON.stringify({ log: { level: 'info' }, ...config }), { mode: 0o600 })
  const child = spawn(LAUNCHER, ['coordinator', '--config', file, '--json'], {
    cwd: '/',
    env: { ...cleanEnvironment(), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log: string[] = []
  child.stderr.setEncoding('utf8').on('data', (text: string) => log.push(...text.trimEnd().split('\n')))
  const exited = once(child, 'exit')
  await Promise.race([once(child.stdout, 'data'), exited])
  const says = (text: string): number => log.filter((line) => line.includes(text)).length
  return {
    process: child,
    log,
    says,
    isActive: () => says('this coordinator is active') > says('is not active any more'),
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      child.kill('SIGCONT')
      await exited
    },
  }
}
