/**
 * Parses backup.manifest, the contents of a backup; stored-files.ts finds the bytes.
 *
 * Format 5 (src/info/manifest.c): `[target:file]`, `[target:path]` and `[target:link]` list everything by manifest
 * name, `pg_data/…` and `pg_tblspc/<oid>/…`; the `:default` sections have what most of them share.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import { decodeName } from '../../../dataplane/protocol/file-names.ts'
import type { Passphrase } from '../../decode/aes-cbc.ts'
import { type BackupTree, buildTree, type TreeNode } from '../tree.ts'
import { runInTurns } from '../turns.ts'
import { type FileLine, readFileLine, startsWith } from './file-line.ts'
import {
  type InfoLine,
  keyText,
  MalformedInfo,
  parseObject,
  parseValue,
  passphraseOf,
  scanInfo,
  valueText,
} from './ini.ts'

/** The raw fields of a file's line of the manifest; stored-files.ts interprets them when the file is read. */
export type ManifestFile = Readonly<Record<string, unknown>>

export interface Manifest {
  readonly label: string
  readonly compressType: string
  /** Files in bundles are compressed and encrypted in their raw forms. */
  readonly bundleRaw: boolean
  /** Of the files; undefined where they are not encrypted. */
  readonly passphrase: Passphrase | undefined
  /** The backups to which block maps refer by index; not validated. */
  readonly mapReferences: readonly string[]
  /** The backups that the files name as the owners of their bytes; not validated. */
  readonly references: readonly string[]
  /** Tree paths of files in which pgBackRest found pages with wrong checksums. */
  readonly pageErrors: readonly string[]
  readonly tree: BackupTree<ManifestFile>
}

/**
 * @param bytes must not be modified afterwards
 * @param from names the manifest in messages
 * @throws MalformedInfo | HowdahError `backup_damaged` | `backup_unsupported`
 */
export async function parseManifest(bytes: Buffer, from: string): Promise<Manifest> {
  const nodes: Node[] = []
  // By tree path.
  const links = new Map<string, string>()
  const references = new Set<unknown>()
  const pageErrors: string[] = []
  const defaults: Record<string, Record<string, unknown>> = {}
  const backup: Record<string, unknown> = {}
  const option: Record<string, unknown> = {}
  const file: FileLine = {
    size: undefined,
    timestamp: undefined,
    mode: undefined,
    reference: undefined,
    checksumPage: undefined,
  }
  let reference: unknown
  let passphrase: Passphrase | undefined
  let version: unknown

  const scan = scanInfo(bytes, (section, line) => {
    if (section === 'target:file') {
      const path = pathOf(bytes, line)
      readFileLine(path, bytes, line.valueStart, line.valueEnd, file)
      nodes.push(fileNode(path, file, line.valueStart))
      if (file.checksumPage === false) pageErrors.push(path)
      if (file.reference !== reference) {
        reference = file.reference
        references.add(reference)
      }
      return
    }
    const key = keyText(bytes, line)
    switch (section) {
      case 'target:path':
        if (key === 'pg_tblspc' || isTablespaceLink(key)) return
        nodes.push(directoryNode(key, parseObject(key, valueText(bytes, line))))
        return
      case 'target:link': {
        const { destination } = parseObject(key, valueText(bytes, line))
        if (typeof destination !== 'string') throw new MalformedInfo(`link ${key} has no destination`)
        links.set(treePath(key), destination)
        return
      }
      case 'target:file:default':
      case 'target:path:default':
        defaults[section] = { ...defaults[section], [key]: parseValue(key, valueText(bytes, line)) }
        return
      case 'backup':
        backup[key] = parseValue(key, valueText(bytes, line))
        return
      case 'backup:option':
        option[key] = parseValue(key, valueText(bytes, line))
        return
      case 'backrest':
        if (key === 'backrest-version') version = parseValue(key, valueText(bytes, line))
        return
      case 'cipher':
        passphrase = passphraseOf(key, valueText(bytes, line)) ?? passphrase
    }
  })
  await runInTurns(scan)

  const label = backup['backup-label']
  if (typeof label !== 'string') throw new MalformedInfo('it does not say which backup it is of')
  if (backup['backup-block-incr'] === true && isBeforeBlockMaps(version)) {
    throw new HowdahError(
      'backup_unsupported',
      `backup ${label} was taken with the first try of repo-block in pgBackRest ${version}, which no other version can read either; take a new full backup`,
    )
  }
  const mapReferences = backup['backup-reference'] ?? label
  if (typeof mapReferences !== 'string') throw new MalformedInfo('backup-reference is no text')
  const fileMode = modeOf('[target:file:default]', defaults['target:file:default']?.mode ?? '0600')
  const directoryMode = modeOf('[target:path:default]', defaults['target:path:default']?.mode ?? '0700')
  for (const node of nodes) {
    if (node.mode === DEFAULT_MODE) node.mode = node.kind === 'file' ? fileMode : directoryMode
    // The backup contains what production only links to; only tablespaces remain links.
    links.delete(node.path)
  }
  for (const [path, linkTarget] of links) {
    nodes.push({ path, kind: 'symlink', mode: 0o777, mtime: 0, size: 0, linkTarget })
  }

  const compressType = option['option-compress-type'] ?? (option['option-compress'] === true ? 'gz' : 'none')
  return {
    label,
    compressType: String(compressType),
    bundleRaw: backup['backup-bundle-raw'] === true,
    passphrase,
    mapReferences: mapReferences.split(','),
    pageErrors,
    references: [...references].flatMap((one) => (one === undefined ? [] : String(one))),
    tree: await buildTree(nodes, from, (start, { path }) =>
      parseObject(manifestName(path), lineFrom(bytes, start)),
    ),
  }
}

/** The default is known only after the whole manifest is read. */
const DEFAULT_MODE = -1

/** The source of a file is where its value begins: the line is parsed when the file is read. */
type Node = { -readonly [K in keyof TreeNode<number>]: TreeNode<number>[K] }

function lineFrom(bytes: Buffer, start: number): string {
  const end = bytes.indexOf('\n', start)
  return bytes.toString('utf8', start, end < 0 ? bytes.length : end)
}

const modeOrDefault = (name: string, mode: unknown) =>
  mode === undefined ? DEFAULT_MODE : modeOf(name, mode)

const fileNode = (path: string, { mode, timestamp, size }: FileLine, source: number): Node => ({
  path,
  kind: 'file',
  mode: modeOrDefault(path, mode),
  mtime: wholeNumber(path, 'timestamp', timestamp),
  size: wholeNumber(path, 'size', size),
  source,
})

const directoryNode = (name: string, fields: ManifestFile): Node => ({
  path: treePath(name),
  kind: 'directory',
  mode: modeOrDefault(name, fields.mode),
  mtime: 0,
  size: 0,
})

/** `pg_data/X` → `data/X`, `pg_tblspc/<oid>/X` → `tblspc/<oid>/X`. @throws MalformedInfo for anything else */
function treePath(name: string): string {
  if (name === 'pg_data' || name.startsWith('pg_data/') || name.startsWith('pg_tblspc/')) return name.slice(3)
  throw new MalformedInfo(`${JSON.stringify(name)} is in no known place`)
}

/** As `treePath` of a line's key; made from the bytes, because comparing substrings is slow. */
function pathOf(bytes: Buffer, line: InfoLine): string {
  const { keyStart, keyEnd } = line
  const isKnown = startsWith(bytes, keyStart, 'pg_data/') || startsWith(bytes, keyStart, 'pg_tblspc/')
  return isKnown ? decodeName(bytes, keyStart + 3, keyEnd) : treePath(keyText(bytes, line))
}

/** The manifest's name of a tree path. */
export const manifestName = (treePath: string): string => `pg_${treePath}`

const isTablespaceLink = (name: string) => /^pg_data\/pg_tblspc\/\d+$/.test(name)

/** @throws MalformedInfo unless it is a whole number from 0 on */
export function wholeNumber(name: string, what: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new MalformedInfo(`${name} has no valid ${what}`)
}

function modeOf(name: string, value: unknown): number {
  if (typeof value === 'string' && /^[0-7]{3,4}$/.test(value)) return Number.parseInt(value, 8)
  throw new MalformedInfo(`${name} has no valid mode`)
}

/** Up to 2.45, block maps had another format, and were declared a beta. */
function isBeforeBlockMaps(version: unknown): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(String(version)) ?? []
  return Number(major) === 2 && Number(minor) < 46
}
