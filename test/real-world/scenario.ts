/**
 * What a scenario of the corpus is: a cluster, archive or repository as a user reported it, and what is right for it.
 * Says nothing about how one is run; lane.ts does that.
 */
import type { RepositoryConfig } from '../../config/formats.ts'
import type { Workbench } from './workbench.ts'

export interface Scenario {
  /** A sentence: what a user has, and what publishing it is like. */
  readonly name: string
  /** The public report that it comes from, or the page of PostgreSQL's documentation that makes it possible. */
  readonly source: string
  /** `ci`: runs in `npm test`, too. All run in `npm run soak -- real-world`. */
  readonly share: 'ci' | 'soak'
  /** What the mount agent serves; its paths are below the scenario's own directory. Default: `basebackup`. */
  readonly repository?: RepositoryKind | ((directory: string) => Omit<RepositoryConfig, 'name'>)
  /** Makes the cluster, breaks it in its way, backs it up, publishes it and says what must hold. */
  readonly run: (bench: Workbench) => Promise<void>
}

export type RepositoryKind = RepositoryConfig['format']

/** Where the repository of a scenario is, and a pg_basebackup's WAL archive beside it. */
export const repositoryPath = (directory: string): string => `${directory}/repository`
export const walPath = (directory: string): string => `${directory}/wal`

export function repositoryOf(scenario: Scenario, directory: string): Omit<RepositoryConfig, 'name'> {
  const { repository = 'basebackup' } = scenario
  if (typeof repository === 'function') return repository(directory)
  return {
    format: repository,
    path: repositoryPath(directory),
    ...(repository === 'basebackup' && { walPath: walPath(directory) }),
  }
}
