/** A directory of instances, each of which is a plain pg_basebackup directory or holds several. */
import { HowdahError } from '../../../../messages/errors.ts'
import type { Repository, RepositoryOptions } from '../../repository.ts'
import type { Spool } from '../../spool.ts'

export function openBasebackup(options: RepositoryOptions, _spool: Spool): Repository {
  throw new HowdahError('backup_unsupported', `repository ${options.name} cannot be read yet`)
}
