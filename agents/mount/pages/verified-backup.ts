/**
 * A backup whose blocks are checked when they are served. A damaged block is reported and served as it is: PostgreSQL
 * checks pages itself when it reads them, and the other pages must remain readable.
 */
import type { DamagedBlockListener, TreeEntry } from '../../dataplane/backup-source.ts'
import { readRanges } from '../../dataplane/server/read-ranges.ts'
import { lsnOf } from '../../wal/lsn.ts'
import type { OpenBackup } from '../repository.ts'
import { type BackupSpan, checkPage } from './check-page.ts'
import { type ClusterPages, clusterPages } from './cluster-pages.ts'
import { PAGE_BYTES } from './page-checksum.ts'

/** A block that is not what PostgreSQL wrote. */
export interface DamagedBlock {
  /** As in the backup's tree. */
  readonly file: string
  /** Its number in the file. */
  readonly block: number
  readonly what: string
}

/** Main forks of relations in base/, global/ and tablespaces; other forks are not fully WAL-logged, and may stay torn. */
const RELATION = /^(?:data\/(?:base\/\d+|global)|tblspc\/\d+\/PG_[^/]+\/\d+)\/\d+(?:\.(\d{1,6}))?$/
const CONTROL = 'data/global/pg_control'
const CONTROL_BYTES = 8192

interface Relation {
  readonly path: string
  readonly size: number
  /** Of the file's first block in the relation. */
  readonly firstBlock: number
}

/**
 * The same as `backup` where the cluster has no checksums, or the start LSN of the backup is not known.
 * @param report is called for each damaged block each time it is read, and must not throw
 */
export function verifiedBackup(backup: OpenBackup, report: (damage: DamagedBlock) => void): OpenBackup {
  const start = lsnOf(backup.summary.startLsn)
  if (start === undefined) return backup
  const span: BackupSpan = { start, stop: lsnOf(backup.summary.stopLsn) }
  const listeners = new Set<DamagedBlockListener>()
  let relations: Promise<ReadonlyMap<number, Relation>> | undefined

  /** By number of the file. A failure is not kept. */
  function relationsOf(): Promise<ReadonlyMap<number, Relation>> {
    if (relations !== undefined) return relations
    const finding = findRelations(backup)
    relations = finding
    finding.catch(() => {
      relations = undefined
    })
    return finding
  }

  function check(file: number, { path, firstBlock }: Relation, offset: number, bytes: Buffer): void {
    for (let at = 0; at + PAGE_BYTES <= bytes.length; at += PAGE_BYTES) {
      const block = (offset + at) / PAGE_BYTES
      const what = checkPage(bytes, at, firstBlock + block, span)
      if (what === undefined) continue
      report({ file: path, block, what })
      for (const listener of listeners) listener(file, block)
    }
  }

  const read: OpenBackup['read'] = async (file, offset, length, signal) => {
    const relation = (await relationsOf()).get(file)
    if (relation === undefined) return backup.read(file, offset, length, signal)
    // Reads whole blocks: the requested range may begin or end within one.
    const begin = offset - (offset % PAGE_BYTES)
    const end = Math.min(Math.ceil((offset + length) / PAGE_BYTES) * PAGE_BYTES, relation.size)
    if (end <= begin) return backup.read(file, offset, length, signal)
    const bytes = await backup.read(file, begin, end - begin, signal)
    check(file, relation, begin, bytes)
    return bytes.subarray(offset - begin, offset - begin + length)
  }

  return {
    ...backup,
    read,
    readMany: (ranges, signal) => readRanges(read, ranges, signal),
    onDamagedBlock(listener) {
      // Several connections may pass the same function.
      const mine: DamagedBlockListener = (file, block) => listener(file, block)
      listeners.add(mine)
      return () => void listeners.delete(mine)
    },
  }
}

async function findRelations(backup: OpenBackup): Promise<ReadonlyMap<number, Relation>> {
  const found = new Map<number, Relation>()
  const cluster = await pagesOf(backup)
  if (cluster === undefined) return found
  for await (const entries of backup.tree()) {
    for (const entry of entries) addRelation(found, backup, entry, cluster)
  }
  return found
}

function addRelation(
  found: Map<number, Relation>,
  backup: OpenBackup,
  { path, file, size }: TreeEntry,
  { blocksPerFile }: ClusterPages,
): void {
  if (file === undefined) return
  const parts = RELATION.exec(path)
  if (parts === null) return
  const [, segment] = parts
  const relation = segment === undefined ? path : path.slice(0, -segment.length - 1)
  // Unlogged: its pages are not in the WAL, and PostgreSQL resets it at the end of recovery.
  if (backup.entry(`${relation}_init`) !== undefined) return
  found.set(file, { path, size, firstBlock: Number(segment ?? 0) * blocksPerFile })
}

async function pagesOf(backup: OpenBackup): Promise<ClusterPages | undefined> {
  const control = backup.entry(CONTROL)
  if (control?.file === undefined) return undefined
  return clusterPages(await backup.read(control.file, 0, CONTROL_BYTES))
}
