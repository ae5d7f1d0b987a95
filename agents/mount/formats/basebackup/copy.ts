/**
 * A copy of a cluster's files as pg_basebackup, rsync or Barman make it: a data directory and tablespaces, each a
 * directory or a tar archive. Finds each file's bytes; which copy belongs to which backup is the format's decision.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { type AllowedRoots, resolveAllowed } from '../../decode/allowed-roots.ts'
import type { Checksum } from '../../decode/checksum.ts'
import { type Compression, damaged, type StoredFile } from '../../decode/stored-file.ts'
import type { Spool } from '../../spool/spool.ts'
import type { TarIndexes } from '../tar/tar-index.ts'
import type { TarMember } from '../tar/tar-members.ts'
import type { TreeNode } from '../tree.ts'
import { visitInTurns } from '../turns.ts'
import { archiveNodes } from './archive-tree.ts'
import type { BackupManifest } from './backup-manifest.ts'
import { type CopySource, type Location, pathBelow, type TablespaceLocation } from './copy-locations.ts'
import { directoryNodes } from './directory-tree.ts'

export interface Copy {
  readonly roots: AllowedRoots
  readonly label: string
  readonly data: Location
  readonly tablespaces: readonly TablespaceLocation[]
  readonly manifest: BackupManifest | undefined
  /** Whether the manifest's checksums are to be verified. */
  readonly verify: boolean
}

export interface CopyReader {
  readonly spool: Spool
  readonly indexes: TarIndexes
}

const ARCHIVE = /^(base|pg_wal|\d{1,10})\.tar(?:\.(gz|lz4|zst|bz2))?$/

/**
 * The tar archives of a directory by their names without extensions.
 * @throws HowdahError `backup_damaged` when one exists twice
 */
export async function archivesIn(
  roots: AllowedRoots,
  directory: string,
  label: string,
): Promise<ReadonlyMap<string, StoredFile>> {
  const found = new Map<string, StoredFile>()
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const { name } = entry
    const [, stem, compression] = ARCHIVE.exec(name) ?? []
    if (stem === undefined || !(entry.isFile() || entry.isSymbolicLink())) continue
    const path = await resolveAllowed(roots, join(directory, name))
    if (found.has(stem)) {
      throw new HowdahError('backup_damaged', `${directory} has ${stem}.tar twice, compressed differently`)
    }
    found.set(stem, archiveFile(roots, path, compression as Compression | undefined, label))
  }
  return found
}

export const archiveFile = (
  { root, linkTargets }: AllowedRoots,
  path: string,
  compression: Compression | undefined,
  label: string,
): StoredFile => ({
  region: { root, linkTargets, path, offset: 0, length: undefined, wholeFile: true },
  transforms: compression === undefined ? [] : [{ kind: 'decompress', compression }],
  size: undefined,
  description: `${path.slice(path.lastIndexOf('/') + 1)} of backup ${label}`,
})

/**
 * The tree nodes of a copy, validated against its manifest where it has one.
 * @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable`
 */
export async function copyNodes(copy: Copy, { indexes }: CopyReader): Promise<TreeNode<CopySource>[]> {
  const nodesOf = (place: Location, at: string) =>
    place.kind === 'directory'
      ? directoryNodes(copy.roots, place.path, at)
      : archiveNodes(place.file, at, indexes)
  const parts = await Promise.all([
    nodesOf(copy.data, 'data'),
    ...copy.tablespaces.map(({ oid, place }) => nodesOf(place, `tblspc/${oid}`)),
  ])
  const nodes: TreeNode<CopySource>[] = []
  let isThere = false
  for (const part of parts) {
    await visitInTurns(part, (node) => {
      if (node.kind !== 'file' && /^data\/pg_tblspc\/\d{1,10}$/.test(node.path)) return
      if (node.path === 'data/pg_tblspc') isThere = true
      nodes.push(node)
    })
  }
  if (copy.tablespaces.length > 0 && !isThere) {
    throw new HowdahError('backup_damaged', `backup ${copy.label} has tablespaces and no pg_tblspc`)
  }
  for (const { oid, target } of copy.tablespaces) {
    const path = `data/pg_tblspc/${oid}`
    nodes.push({ path, kind: 'symlink', mode: 0o777, mtime: 0, size: 0, linkTarget: target })
  }
  if (copy.manifest !== undefined) await checkManifest(nodes, copy.manifest, copy.label)
  return nodes
}

/** The name of a tree path in backup_manifest. */
export const manifestName = (path: string): string =>
  path.startsWith('data/') ? path.slice('data/'.length) : `pg_${path}`

async function checkManifest(
  nodes: readonly TreeNode<CopySource>[],
  manifest: BackupManifest,
  label: string,
): Promise<void> {
  const found = new Set<string>()
  await visitInTurns(nodes, ({ path, kind, size, source }) => {
    if (kind !== 'file') return
    const name = manifestName(path)
    const listed = manifest.files.get(name)
    if (listed === undefined) return
    found.add(name)
    if (listed.size === size) return
    throw new HowdahError(
      'backup_damaged',
      `${whereIs(source, path)} has ${size} bytes for ${name} where backup_manifest lists ${listed.size} (backup ${label}); has PostgreSQL been started on this backup, or the copy been cut short?`,
    )
  })
  const lost = manifest.files.size - found.size
  if (lost === 0) return
  const first = [...manifest.files.keys()].find((name) => !found.has(name))
  throw new HowdahError(
    'backup_damaged',
    `backup ${label} lacks ${first}${lost > 1 ? ` and ${lost - 1} more files` : ''} that ${manifest.path} lists`,
  )
}

const whereIs = (source: CopySource | undefined, path: string): string =>
  source === undefined ? 'the backup' : isMember(source) ? source[0].region.path : pathBelow(source, path)

/** A type guard: Array.isArray does not narrow a readonly array. */
const isMember = (source: CopySource): source is readonly [StoredFile, number] => Array.isArray(source)

/** A file of a copy, and what it takes to read it: without the rest of the copy, which may list a million others. */
export interface CopiedFile extends Pick<Copy, 'roots' | 'label'> {
  readonly source: CopySource
  /** Its tree path in the copy. */
  readonly path: string
  readonly size: number
  readonly checksum: Checksum | undefined
}

/** @param node a file of the copy */
export function copiedFile(
  { roots, label, verify, manifest }: Copy,
  { source, path, size }: TreeNode<CopySource>,
): CopiedFile {
  if (source === undefined) throw new HowdahError('internal', `${path} is a file without a source`)
  const checksum = verify ? manifest?.files.get(manifestName(path))?.checksum : undefined
  return { roots, label, source, path, size, checksum }
}

export function storedFile({ roots, label, source, path, size, checksum }: CopiedFile): StoredFile {
  const about = { size, ...(checksum && { checksum }) }
  if (isMember(source)) {
    const [archive, offset] = source
    return { ...memberFile(archive, offset, size, `${path} of backup ${label}`), ...about }
  }
  const file = pathBelow(source, path)
  return {
    region: { ...roots, path: file, offset: 0, length: size, wholeFile: true },
    transforms: [],
    ...about,
    description: `${shortened(file, roots)} of backup ${label}`,
  }
}

/** The bytes of an archive's member: a region of the archive, or of its plain bytes where it is compressed. */
export function memberFile(
  archive: StoredFile,
  offset: number,
  size: number,
  description: string,
): StoredFile {
  const { root, linkTargets, path } = archive.region
  return {
    region: { root, linkTargets, path, offset, length: size, wholeFile: false },
    transforms: [],
    size,
    ...(archive.transforms.length > 0 && { container: archive }),
    description,
  }
}

/** Relative to the repository's root, where it is below it. */
const shortened = (path: string, { root }: AllowedRoots) =>
  path.startsWith(`${root}/`) ? path.slice(root.length + 1) : path

const SMALL_BYTES = 64 * 1024

/**
 * A small file of an archive, as soon as indexing reached it; undefined when it does not exist.
 * @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable`
 */
export async function readMember(
  archive: StoredFile,
  path: string,
  { spool, indexes }: CopyReader,
): Promise<Buffer | undefined> {
  const member: TarMember | undefined = await (await indexes.open(archive)).find(path)
  if (member?.kind !== 'file') return undefined
  if (member.size > SMALL_BYTES) throw damaged(archive, `its ${path} has ${member.size} bytes`)
  return spool.read(archive, member.offset, member.size)
}
