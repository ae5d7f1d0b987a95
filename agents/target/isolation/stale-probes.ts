/** What a probe of isolation or of the kernel leaves behind when the agent is killed in it; the next agent removes it. */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { isMounted } from '../filesystem/drivers/mount-table.ts'
import { clearDeadMount } from '../mount-process/agent/dead-mount.ts'
import { ownCgroup, removeCgroup } from './cgroup.ts'
import { tableName } from './network-rules.ts'
import { listTables, nft } from './nft.ts'

const NAME = /^trial-(\d+)(?:-mount)?$/
const GROUP_PREFIX = 'howdah-'

/** Names the probe of this process; its remains are recognised by it once the process is gone. */
export function probeName(pid: number): string {
  return `trial-${pid}`
}

/** The same for the mount by which the kernel is asked. */
export function probeMountName(pid: number): string {
  return `${probeName(pid)}-mount`
}

/** Never rejects: what cannot be removed now is removed by a later agent. @param directory as for `probeIsolation` */
export async function removeStaleProbes(directory: string): Promise<void> {
  if (process.geteuid?.() !== 0) return
  for (const name of staleNames(entries(directory))) {
    await clearDeadMount(`${directory}/${name}`).catch(() => undefined)
    if (!isMounted(`${directory}/${name}`)) rmSync(`${directory}/${name}`, { recursive: true, force: true })
  }
  const groups = ownCgroup()?.directory
  const named = entries(groups).filter((name) => name.startsWith(GROUP_PREFIX))
  for (const name of staleNames(named.map((group) => group.slice(GROUP_PREFIX.length))))
    await removeCgroup(`${groups}/${GROUP_PREFIX}${name}`)
  const tables = await listTables().catch(() => new Set<string>())
  const prefix = tableName('trial-')
  for (const table of tables) {
    if (!table.startsWith(prefix) || staleNames([`trial-${table.slice(prefix.length)}`]).length === 0)
      continue
    await nft(['-f', '-'], `delete table inet ${table}\n`).catch(() => undefined)
  }
}

/** Those of processes that are gone. */
function staleNames(names: readonly string[]): string[] {
  return names.filter((name) => {
    const pid = NAME.exec(name)?.[1]
    return pid !== undefined && !existsSync(`/proc/${pid}`)
  })
}

function entries(directory: string | undefined): string[] {
  return directory !== undefined && existsSync(directory) ? readdirSync(directory) : []
}
