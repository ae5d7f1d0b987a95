/** Keeps the local copies of fetched blocks of a target within their budget. */
import { readdir, readFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { trimFetchedStores } from '../filesystem/fetched/fetched-stores.ts'
import { cachePaths } from '../mount-process/mount-spec.ts'

export interface FetchedBudgetOptions {
  /** Directory of the write caches of all sessions. */
  readonly cacheRoot: string
  readonly budgetBytes: number
  readonly logger: Logger
}

export interface FetchedBudget {
  /** Directory of the stores. */
  readonly directory: string
  /** Removes stores that no session uses, least recently used first, while all together exceed the budget. Never rejects. */
  trim(): Promise<void>
}

/** Directory of the local copies of fetched blocks. */
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
        if (removed.length > 0)
          logger.info(
            { removed },
            'local copies of fetched blocks were removed, as they exceeded their budget',
          )
      } catch (err) {
        // Usage stays bounded without it: blocks beyond the budget are not stored.
        logger.warn({ err, directory }, 'local copies of fetched blocks could not be trimmed')
      }
    },
  }
}

/** The store keys of all sessions that have a write cache. */
async function keysInUse(cacheRoot: string): Promise<Set<string>> {
  const names = await readdir(cacheRoot).catch((): string[] => [])
  const keys = await Promise.all(
    names.map((name) =>
      readFile(cachePaths(`${cacheRoot}/${name}`).fetchedKey, 'utf8').catch(() => undefined),
    ),
  )
  return new Set(keys.filter((key) => key !== undefined))
}
