/** Keeps the local copies of fetched blocks of a target within their budget. */
import { readdir, readFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { trimFetchedStores } from '../filesystem/fetched/fetched-stores.ts'
import { cachePaths } from '../mount-process/mount-spec.ts'

export interface FetchedBudgetOptions {
  /** Below it are the write caches of all sessions. */
  readonly cacheRoot: string
  readonly budgetBytes: number
  readonly logger: Logger
}

export interface FetchedBudget {
  /** Where the stores are. */
  readonly directory: string
  /** Removes stores that no session uses, those that were used longest ago first, while there is too much. Never rejects. */
  trim(): Promise<void>
}

/** Where the local copies of fetched blocks of all sessions are. */
export function fetchedDirectory(cacheRoot: string): string {
  return `${cacheRoot}/fetched`
}

export function createFetchedBudget({ cacheRoot, budgetBytes, logger }: FetchedBudgetOptions): FetchedBudget {
  const directory = fetchedDirectory(cacheRoot)
  return {
    directory,
    async trim() {
      try {
        const removed = await trimFetchedStores(directory, budgetBytes, await keysInUse(cacheRoot))
        if (removed.length > 0) logger.info({ removed }, 'local copies of fetched blocks made room')
      } catch (err) {
        // They take no more room for it: what is over the budget is not kept.
        logger.warn({ err, directory }, 'local copies of fetched blocks could not be trimmed')
      }
    },
  }
}

/** Of every session that has a write cache. */
async function keysInUse(cacheRoot: string): Promise<Set<string>> {
  const names = await readdir(cacheRoot).catch((): string[] => [])
  const keys = await Promise.all(
    names.map((name) =>
      readFile(cachePaths(`${cacheRoot}/${name}`).fetchedKey, 'utf8').catch(() => undefined),
    ),
  )
  return new Set(keys.filter((key) => key !== undefined))
}
