/** A PostgreSQL server of a test's own that can be stopped, killed and frozen. */
import { readdirSync, readFileSync } from 'node:fs'
import { chown, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { makeCluster, postgresAccount } from './postgres-cluster.ts'
import { scratchDirectory } from './scratch.ts'

export interface OwnPostgres {
  /** Of its database `postgres`, for its superuser. */
  readonly url: string
  start(): Promise<void>
  /** `immediate`: without a word to its clients' transactions. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
  /** SIGSTOP for all of its processes: connections stay, and nothing answers. */
  freeze(): void
  thaw(): void
  remove(): Promise<void>
}

export async function startOwnPostgres(): Promise<OwnPostgres> {
  const directory = await scratchDirectory('howdah-own-postgres-')
  const account = await postgresAccount()
  await chown(directory, account.uid, account.gid)
  const cluster = await makeCluster({ directory, account, configuration: 'inside', settings: {} })
  await cluster.start()
  let frozen: number[] = []

  function thaw(): void {
    for (const pid of frozen) process.kill(pid, 'SIGCONT')
    frozen = []
  }

  return {
    url: `postgres://${cluster.user}@127.0.0.1:${cluster.port}/postgres`,
    start: () => cluster.start(),
    stop: (mode) => cluster.stop(mode),
    freeze() {
      const postmaster = Number(
        readFileSync(join(cluster.dataDirectory, 'postmaster.pid'), 'utf8').split('\n')[0],
      )
      frozen = [postmaster, ...childrenOf(postmaster)]
      for (const pid of frozen) process.kill(pid, 'SIGSTOP')
    },
    thaw,
    async remove() {
      thaw()
      await cluster.stop('immediate')
      await rm(directory, { recursive: true, force: true })
    },
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => parentOf(pid) === parent)
}

/** Undefined: it has ended. */
function parentOf(pid: number): number | undefined {
  try {
    // After the command in parentheses: state, parent (proc(5)).
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(status.slice(status.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return undefined
  }
}
