/**
 * Where this operator installed agents, for `howdah agent upgrade --all`: `hosts.json` in the operator's own configuration
 * directory. It holds no secret, and may be edited: what is written there is an address for SSH.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { z } from 'zod'
import { HowdahError } from '../../../messages/errors.ts'

const Entry = z.object({
  kind: z.enum(['mount', 'target']),
  name: z.string(),
  /** As `user@host:port`. */
  host: z.string(),
  jumps: z.array(z.string()).optional(),
})
const Inventory = z.object({ hosts: z.array(Entry) })

export type InstalledHost = z.infer<typeof Entry>

export function inventoryFile(env: NodeJS.ProcessEnv): string {
  return path.join(env.XDG_CONFIG_HOME || path.join(env.HOME || homedir(), '.config'), 'howdah/hosts.json')
}

/** @throws HowdahError `configuration`: it cannot be read */
export function installedHosts(env: NodeJS.ProcessEnv): InstalledHost[] {
  const file = inventoryFile(env)
  try {
    return Inventory.parse(JSON.parse(readFileSync(file, 'utf8'))).hosts
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw new HowdahError(
      'configuration',
      `${file} must be {"hosts": [{"kind", "name", "host"}, …]}: ${(cause as Error).message}`,
      { cause },
    )
  }
}

/** Takes the place of an entry for the same agent. */
export function rememberHost(env: NodeJS.ProcessEnv, entry: InstalledHost): void {
  save(env, [...others(env, entry), entry])
}

export function forgetHost(env: NodeJS.ProcessEnv, entry: Pick<InstalledHost, 'kind' | 'name'>): void {
  save(env, others(env, entry))
}

function others(
  env: NodeJS.ProcessEnv,
  { kind, name }: Pick<InstalledHost, 'kind' | 'name'>,
): InstalledHost[] {
  return installedHosts(env).filter((one) => one.kind !== kind || one.name !== name)
}

function save(env: NodeJS.ProcessEnv, hosts: readonly InstalledHost[]): void {
  const file = inventoryFile(env)
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  const temporary = `${file}.${process.pid}`
  writeFileSync(temporary, `${JSON.stringify({ hosts }, undefined, 2)}\n`)
  renameSync(temporary, file)
}
