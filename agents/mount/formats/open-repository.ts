/** Which reader reads which format. */
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import type { Repository, RepositoryFormat, RepositoryOptions } from '../repository.ts'
import type { Spool } from '../spool.ts'
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
  basebackup: (options, { spool }) => openBasebackup(options, spool),
  barman: (options) => {
    throw new HowdahError(
      'backup_unsupported',
      `repository ${options.name} is a Barman one, which Howdah cannot read yet; pgBackRest repositories and pg_basebackup directories can be read`,
    )
  },
}

/**
 * Opens a repository; nothing is read before its methods are called.
 * @throws HowdahError `backup_unsupported` for a format that cannot be read yet
 */
export function openRepository(options: RepositoryOptions, dependencies: RepositoryDependencies): Repository {
  return READERS[options.format](options, dependencies)
}
