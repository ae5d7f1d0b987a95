/** What a write uses space for, which decides how early it is refused. */

/**
 * `growth` of a file is refused first. A further share is withheld from growth: half of it is available to `small-growth`
 * (catalogs grow by a block for a DROP TABLE), all of it to `overwrite` (hint bits while reading, eviction, checkpoints).
 * Writes `accepted` by the kernel are never refused here: the error would appear only at an fsync, at which PostgreSQL
 * panics. Nor are writes to files needed to connect.
 */
export type SpaceUse = 'growth' | 'allocation' | 'small-growth' | 'overwrite' | 'accepted'

/** The fraction of the shares withheld from each use. */
export const WITHHELD: Readonly<Record<SpaceUse, number>> = {
  growth: 1,
  allocation: 1,
  'small-growth': 0.5,
  overwrite: 0,
  accepted: 0,
}

/**
 * While PostgreSQL is restarted, everything may use half a share beyond the quota and the reserve: it writes a lock file
 * and replays its WAL, and space can be freed only once it runs.
 */
export const WITHHELD_WHILE_STARTING = -0.5

/** Files up to this many bytes are small. */
const SMALL_FILE_BYTES = 1024 * 1024

/**
 * Whether clients can connect to a database only after PostgreSQL has written this file: some 200 KiB per database, after
 * every start. PostgreSQL 10 to 18: write_relcache_init_file in src/backend/utils/cache/relcache.c.
 */
export const isNeededToConnect = (name: string): boolean => name.startsWith('pg_internal.init')

/** What a write that ends at byte `end` of a file uses space for. */
export function useOfWrite(end: number, size: number, accepted: boolean): SpaceUse {
  if (accepted) return 'accepted'
  if (end <= size) return 'overwrite'
  return end <= SMALL_FILE_BYTES ? 'small-growth' : 'growth'
}
