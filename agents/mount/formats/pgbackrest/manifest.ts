/**
 * backup.manifest: what a backup holds. Only reads it; where the bytes are is stored-files.ts.
 *
 * Format 5 (src/info/manifest.c): `[target:file]`, `[target:path]` and `[target:link]` list everything by manifest
 * name, `pg_data/…` and `pg_tblspc/<oid>/…`; what most of them have in common stands in the `:default` sections.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import { type BackupTree, buildTree, type TreeNode } from '../tree.ts'
import { MalformedInfo, parseObject, parseValue, readInfo } from './ini.ts'

/** Where the manifest says that a file is. */
export interface ManifestFile {
  /** `pg_data/…` or `pg_tblspc/<oid>/…`. */
  readonly name: string
  /** Bytes that it takes in the repository. */
  readonly repoSize: number
  readonly sha1: string | undefined
  /** Label of the backup that owns the bytes, when it is another one. */
  readonly reference: string | undefined
  readonly bundle: { readonly id: number; readonly offset: number } | undefined
}

export interface Manifest {
  readonly label: string
  readonly compressType: string
  readonly tree: BackupTree<ManifestFile>
}

const LABEL = /^\d{8}-\d{6}F(_\d{8}-\d{6}[DI])?$/

type Fields = Readonly<Record<string, unknown>>

/**
 * @param from names the manifest in messages
 * @throws MalformedInfo | HowdahError `backup_damaged` | `backup_unsupported`
 */
export function parseManifest(bytes: Buffer, from: string): Manifest {
  const files: { name: string; fields: Fields }[] = []
  const paths: { name: string; fields: Fields }[] = []
  const links = new Map<string, string>()
  const defaults: Record<string, Record<string, unknown>> = {}
  const backup: Record<string, unknown> = {}
  const option: Record<string, unknown> = {}

  readInfo(bytes, (section, key, value) => {
    switch (section) {
      case 'target:file':
        files.push({ name: key, fields: parseObject(key, value) })
        return
      case 'target:path':
        paths.push({ name: key, fields: parseObject(key, value) })
        return
      case 'target:link': {
        const destination = parseObject(key, value).destination
        if (typeof destination !== 'string') throw new MalformedInfo(`link ${key} has no destination`)
        links.set(key, destination)
        return
      }
      case 'target:file:default':
      case 'target:path:default':
        defaults[section] = { ...defaults[section], [key]: parseValue(key, value) }
        return
      case 'backup':
        backup[key] = parseValue(key, value)
        return
      case 'backup:option':
        option[key] = parseValue(key, value)
    }
  })

  const label = backup['backup-label']
  if (typeof label !== 'string') throw new MalformedInfo('it does not say which backup it is of')
  if (backup['backup-block-incr'] === true || backup['backup-bundle-raw'] === true) {
    throw unsupported(label)
  }

  const nodes: TreeNode<ManifestFile>[] = []
  // Directories and files that are linked in production are in the backup themselves; only tablespaces stay links.
  const listed = new Set<string>()
  for (const { name, fields } of paths) {
    const path = treePath(name)
    if (path === undefined) continue
    listed.add(name)
    const mode = modeOf(name, fields.mode ?? defaults['target:path:default']?.mode ?? '0700')
    if (!isTablespaceLink(name)) nodes.push({ path, kind: 'directory', mode, mtime: 0, size: 0 })
  }
  for (const { name, fields } of files) {
    const path = treePath(name)
    if (path === undefined) throw new MalformedInfo(`file ${name} is in no known place`)
    listed.add(name)
    if (fields.bi !== undefined || fields.bim !== undefined) throw unsupported(label)
    const size = whole(name, 'size', fields.size)
    nodes.push({
      path,
      kind: 'file',
      mode: modeOf(name, fields.mode ?? defaults['target:file:default']?.mode ?? '0600'),
      mtime: whole(name, 'timestamp', fields.timestamp),
      size,
      source: manifestFile(name, fields, size),
    })
  }
  for (const [name, linkTarget] of links) {
    const path = treePath(name)
    if (path === undefined) throw new MalformedInfo(`link ${name} is in no known place`)
    if (listed.has(name) && !isTablespaceLink(name)) continue
    nodes.push({ path, kind: 'symlink', mode: 0o777, mtime: 0, size: 0, linkTarget })
  }

  const compressType = option['option-compress-type'] ?? (option['option-compress'] === true ? 'gz' : 'none')
  return { label, compressType: String(compressType), tree: buildTree(nodes, from) }
}

function manifestFile(name: string, fields: Fields, size: number): ManifestFile {
  const { checksum, reference } = fields
  if (reference !== undefined && (typeof reference !== 'string' || !LABEL.test(reference))) {
    throw new MalformedInfo(`file ${name} refers to something that is no backup label`)
  }
  return {
    name,
    repoSize: fields['repo-size'] === undefined ? size : whole(name, 'repo-size', fields['repo-size']),
    sha1: typeof checksum === 'string' && /^[0-9a-f]{40}$/.test(checksum) ? checksum : undefined,
    reference,
    bundle:
      fields.bni === undefined
        ? undefined
        : {
            id: whole(name, 'bni', fields.bni),
            offset: fields.bno === undefined ? 0 : whole(name, 'bno', fields.bno),
          },
  }
}

/** `pg_data/X` → `data/X`, `pg_tblspc/<oid>/X` → `tblspc/<oid>/X`; undefined for `pg_tblspc` itself and all else. */
function treePath(name: string): string | undefined {
  if (name === 'pg_data' || name.startsWith('pg_data/')) return name.slice('pg_'.length)
  if (name.startsWith('pg_tblspc/')) return name.slice('pg_'.length)
  if (name === 'pg_tblspc') return undefined
  throw new MalformedInfo(`${JSON.stringify(name)} is in no known place`)
}

const isTablespaceLink = (name: string) => /^pg_data\/pg_tblspc\/\d+$/.test(name)

function whole(name: string, what: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new MalformedInfo(`${name} has no valid ${what}`)
}

function modeOf(name: string, value: unknown): number {
  if (typeof value === 'string' && /^[0-7]{3,4}$/.test(value)) return Number.parseInt(value, 8)
  throw new MalformedInfo(`${name} has no valid mode`)
}

const unsupported = (label: string) => new HowdahError('backup_unsupported', unsupportedReason(label))

export const unsupportedReason = (label: string) =>
  `backup ${label} is block incremental or has raw bundles, which Howdah cannot read yet; a full backup taken with repo-block=n can be published`
