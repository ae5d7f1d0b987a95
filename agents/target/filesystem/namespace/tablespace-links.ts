/**
 * Links in `data/pg_tblspc`: PostgreSQL creates them, also when it replays WAL, pointing to where production had the
 * tablespace. They are redirected to directories of the mount; none may point out of it.
 */
import { posix } from 'node:path'
import { locationDirectory } from '../../tablespaces/location-directory.ts'
import type { Ino } from '../file-system.ts'
import { ROOT } from '../tree/base-tree.ts'
import type { Namespace } from './namespace.ts'

export interface TablespaceLinks {
  /** Whether links in this directory are tablespace links. */
  appliesTo(directory: Ino): boolean
  /** The target to use instead of `target`; undefined: it points out of the mount and must be refused. */
  targetOf(target: string): string | undefined
}

export function createTablespaceLinks(names: Namespace): TablespaceLinks {
  const child = (directory: Ino, name: string) => (directory === 0 ? 0 : names.lookup(directory, name))

  return {
    appliesTo: (directory) => directory === child(child(ROOT, 'data'), 'pg_tblspc'),
    targetOf(target) {
      const tablespaces = child(ROOT, 'tblspc')
      // Links made by the agent, to a tablespace of the backup.
      const own = posix.basename(posix.dirname(target)) === 'tblspc' ? posix.basename(target) : ''
      const name = [locationDirectory(target), own].find(
        (each) => each !== '' && child(tablespaces, each) !== 0,
      )
      return name === undefined ? undefined : `../../tblspc/${name}`
    },
  }
}
