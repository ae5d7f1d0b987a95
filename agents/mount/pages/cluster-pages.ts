/** What pg_control says about a cluster's pages. */
import { PAGE_BYTES } from './page-checksum.ts'

export interface ClusterPages {
  /** Blocks of each file of a relation but the last. */
  readonly blocksPerFile: number
}

export interface PageLayout extends ClusterPages {
  /** Bytes of a page. */
  readonly pageBytes: number
  readonly hasChecksums: boolean
}

/**
 * FLOATFORMAT_VALUE of catalog/pg_control.h, which lies 8-aligned in ControlFileData of every version. From there on,
 * all versions from PostgreSQL 10 to 18 have u32 page size at 8, blocks per file at 12, and data_checksum_version at
 * 44; the length of what comes before differs by version.
 */
const FLOAT_FORMAT = 1_234_567
const PAGE_SIZE = 8
const BLOCKS_PER_FILE = 12
const CHECKSUM_VERSION = 44
/** PG_DATA_CHECKSUM_VERSION of storage/bufpage.h: the only one that exists. */
const CHECKSUMS = 1

/** Undefined: this is no pg_control. */
export function pageLayout(control: Buffer): PageLayout | undefined {
  for (let at = 0; at + CHECKSUM_VERSION + 4 <= control.length; at += 8) {
    if (control.readDoubleLE(at) !== FLOAT_FORMAT) continue
    const blocksPerFile = control.readUInt32LE(at + BLOCKS_PER_FILE)
    if (blocksPerFile === 0) return undefined
    return {
      blocksPerFile,
      pageBytes: control.readUInt32LE(at + PAGE_SIZE),
      hasChecksums: control.readUInt32LE(at + CHECKSUM_VERSION) === CHECKSUMS,
    }
  }
  return undefined
}

/** Undefined: the cluster has no checksums, or pages of another size, or this is no pg_control. */
export function clusterPages(control: Buffer): ClusterPages | undefined {
  const layout = pageLayout(control)
  if (layout === undefined || !layout.hasChecksums || layout.pageBytes !== PAGE_BYTES) return undefined
  return { blocksPerFile: layout.blocksPerFile }
}
