/**
 * The reader of each repository format, and the entry of this folder. A format reader finds out where the bytes of a
 * backup and its WAL are stored, as `StoredFile`s; it never reads large files itself, which is the spool's work, and
 * never writes. tree.ts, open-backup.ts, wal-files.ts and tar/ are shared by the formats.
 */
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import type { LocatedRepository, Repository, RepositoryFormat, RepositoryOptions } from '../repository.ts'
import type { Spool } from '../spool/spool.ts'
import { openBarman } from './barman/repository.ts'
import { openBasebackup } from './basebackup/repository.ts'
import { openPgbackrest } from './pgbackrest/repository.ts'

export interface RepositoryDependencies {
  readonly spool: Spool
  readonly logger: Logger
}

const READERS: Readonly<
  Record<RepositoryFormat, (options: RepositoryOptions, dependencies: RepositoryDependencies) => Repository>
> = {
  pgbackrest: (options, { spool }) => openPgbackrest(options, spool),
  basebackup: (options, { spool }) => openBasebackup(located(options), spool),
  barman: (options, { spool }) => openBarman(options, spool),
}

function located(options: RepositoryOptions): LocatedRepository {
  const { name, path } = options
  if (path !== undefined) return { ...options, path }
  throw new HowdahError('configuration', `repository ${name} has no path`)
}

/** Opens a repository; nothing is read before its methods are called. */
export function openRepository(options: RepositoryOptions, dependencies: RepositoryDependencies): Repository {
  return READERS[options.format](options, dependencies)
}
