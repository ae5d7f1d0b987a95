/**
 * One PostgreSQL server for a process of tests, started when the first test asks for it and stopped after the last:
 * for tests that need any database. Tests of clusters make their own by postgres-cluster.ts.
 */
import { chown, rm } from 'node:fs/promises'
import { type Cluster, makeCluster, postgresAccount } from './postgres-cluster.ts'
import { scratchDirectory } from './scratch.ts'

interface Running {
  readonly cluster: Cluster
  readonly directory: string
}

let running: Promise<Running> | undefined

/** The URL of its database `postgres`, for its superuser. The first call takes some seconds. */
export async function postgresUrl(): Promise<string> {
  running ??= start()
  const { cluster } = await running
  return `postgres://${cluster.user}@127.0.0.1:${cluster.port}/postgres`
}

async function start(): Promise<Running> {
  const directory = await scratchDirectory('howdah-test-postgres-')
  try {
    const account = await postgresAccount()
    await chown(directory, account.uid, account.gid)
    const cluster = await makeCluster({ directory, account, configuration: 'inside', settings: {} })
    await cluster.start()
    return { cluster, directory }
  } catch (error) {
    await rm(directory, { recursive: true, force: true })
    throw error
  }
}

/** Loaded by .mocharc.json, before the check for leftovers. */
export const mochaHooks = {
  async afterAll(this: Mocha.Context) {
    this.timeout(60_000)
    const started = await running?.catch(() => undefined)
    running = undefined
    if (started === undefined) return
    await started.cluster.stop('immediate')
    await rm(started.directory, { recursive: true, force: true })
  },
}
