/**
 * Links in `data/pg_tblspc`: PostgreSQL makes them, also from what it finds in WAL, to wherever production had the
 * tablespace. None of them leads out of the mount.
 */
import { posix } from 'node:path'
import { locationDirectory } from '../../tablespaces/location-directory.ts'
import type { Ino } from '../file-system.ts'
import { ROOT } from '../tree/base-tree.ts'
import type { Namespace } from './namespace.ts'

export interface TablespaceLinks {
  /** Whether links in this directory are of tablespaces. */
  appliesTo(directory: Ino): boolean
  /** What a link to `target` leads to instead; undefined: it would lead out, and must not be made. */
  targetOf(target: string): string | undefined
}

export function createTablespaceLinks(names: Namespace): TablespaceLinks {
  const child = (directory: Ino, name: string) => (directory === 0 ? 0 : names.lookup(directory, name))

  return {
    appliesTo: (directory) => directory === child(child(ROOT, 'data'), 'pg_tblspc'),
    targetOf(target) {
      const tablespaces = child(ROOT, 'tblspc')
      // Made by the agent: to a tablespace of the backup.
      const own = posix.basename(posix.dirname(target)) === 'tblspc' ? posix.basename(target) : ''
      const name = [locationDirectory(target), own].find(
        (each) => each !== '' && child(tablespaces, each) !== 0,
      )
      return name === undefined ? undefined : `../../tblspc/${name}`
    },
  }
}
