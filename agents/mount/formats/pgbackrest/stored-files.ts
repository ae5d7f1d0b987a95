/**
 * Where pgBackRest stores the bytes of a file: in the backup that owns them, as a file with the compression's extension
 * or as a part of a bundle, or block by block in several backups (src/info/manifest, src/command/backup/file.c.inc,
 * src/command/restore/process.c.inc).
 *
 * Compressed first, then encrypted. Super blocks, maps and, where the manifest says so, files in bundles have raw
 * forms: encryption without its magic word, and zlib's header instead of gzip's.
 */
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { TreeEntry } from '../../../dataplane/backup-source.ts'
import type { AllowedRoots } from '../../decode/allowed-roots.ts'
import { checksumOf } from '../../decode/checksum.ts'
import type { ComposedFile, Compression, StoredFile, Transform } from '../../decode/stored-file.ts'
import type { BlockFiles } from './block-file.ts'
import { MalformedInfo } from './ini.ts'
import { type Manifest, type ManifestFile, manifestName, wholeNumber } from './manifest.ts'

const COMPRESSIONS: Readonly<Record<string, Compression | null>> = {
  none: null,
  gz: 'gz',
  zst: 'zst',
  lz4: 'lz4',
  bz2: 'bz2',
}

/** BLOCK_INCR_SIZE_FACTOR of src/info/manifest/store.c.inc. */
const BLOCK_UNIT_BYTES = 8192
/** Far more than pgBackRest uses. Bytes. */
const MAX_BLOCK_BYTES = 64 * 1024 * 1024
const DEFAULT_CHECKSUM_BYTES = 6
const MAX_CHECKSUM_BYTES = 16
/** Of a file of a terabyte in blocks of 128 KiB. */
const MAX_MAP_BYTES = 64 * 1024 * 1024

export interface StoredFilesOf extends AllowedRoots {
  /** `backup/<stanza>` */
  readonly stanzaDirectory: string
  /** The references of its files must be labels of the stanza's backups. */
  readonly manifest: Manifest
  /** Of the stanza's backups. */
  readonly labels: readonly string[]
  readonly blockFiles: BlockFiles
  /** Of whole files. */
  readonly verifyChecksums: boolean
}

/** @throws HowdahError `backup_unsupported` for a compression that is not known */
export function storedFiles(
  of: StoredFilesOf,
): (file: ManifestFile, entry: TreeEntry) => StoredFile | ComposedFile {
  const { root, linkTargets, stanzaDirectory, manifest, labels, blockFiles, verifyChecksums } = of
  const { label, passphrase, bundleRaw } = manifest
  const compression = COMPRESSIONS[manifest.compressType]
  if (compression === undefined) {
    throw new HowdahError('backup_unsupported', `backup ${label} is compressed by ${manifest.compressType}`)
  }
  const extension = compression === null ? '' : `.${compression}`
  const decrypt = (raw: boolean): Transform[] =>
    passphrase === undefined ? [] : [{ kind: 'decrypt', passphrase, raw }]
  const decode = (raw: boolean): Transform[] => [
    ...decrypt(raw),
    ...(compression === null
      ? []
      : [{ kind: 'decompress', compression: raw && compression === 'gz' ? 'zlib' : compression } as const]),
  ]
  const [wholeForm, rawForm, rawEncryption] = [decode(false), decode(true), decrypt(true)]

  /** Where a file or a super block is. `extra` is the extension of a file that is not in a bundle. */
  const place = (owner: string, name: string, bundle: number, extra: string) => ({
    root,
    linkTargets,
    path:
      bundle === 0
        ? join(stanzaDirectory, owner, name + extra)
        : join(stanzaDirectory, owner, 'bundle', String(bundle)),
  })

  function composed(file: ManifestFile, name: string, { size }: TreeEntry, stored: StoredFile): ComposedFile {
    const { region, description } = stored
    const mapBytes = wholeNumber(name, 'bim', file.bim)
    const blockSize = wholeNumber(name, 'bi', file.bi) * BLOCK_UNIT_BYTES
    const checksumSize = file.bic === undefined ? DEFAULT_CHECKSUM_BYTES : wholeNumber(name, 'bic', file.bic)
    const length = region.length ?? 0
    if (
      mapBytes > Math.min(length, MAX_MAP_BYTES) ||
      blockSize < 1 ||
      blockSize > MAX_BLOCK_BYTES ||
      checksumSize < 1 ||
      checksumSize > MAX_CHECKSUM_BYTES
    ) {
      throw new MalformedInfo(`${name} has no valid block map`)
    }
    return blockFiles.open({
      size,
      blockSize,
      checksumSize,
      checksum: checksumOf(stored),
      description,
      map: {
        region: {
          ...region,
          offset: region.offset + length - mapBytes,
          length: mapBytes,
          wholeFile: false,
        },
        transforms: rawEncryption,
        size: undefined,
        description: `the block map of ${description}`,
      },
      transforms: rawForm,
      locate({ reference, bundle }) {
        const owner = manifest.mapReferences[reference]
        if (owner !== undefined && labels.includes(owner)) return place(owner, name, bundle, '.pgbi')
        throw new HowdahError(
          'backup_damaged',
          `the block map of ${description} refers to backup ${JSON.stringify(owner ?? reference)}, which is not in the repository`,
        )
      },
    })
  }

  function stored(file: ManifestFile, name: string, entry: TreeEntry): StoredFile {
    const { checksum, reference, bni, bno } = file
    const bundle = bni === undefined ? 0 : wholeNumber(name, 'bni', bni)
    const isSha1 = typeof checksum === 'string' && /^[0-9a-f]{40}$/.test(checksum)
    const sha1 = isSha1 && verifyChecksums ? checksum : undefined
    const owner = reference === undefined ? label : String(reference)
    return {
      region: {
        ...place(owner, name, bundle, isBlockIncremental(file) ? '.pgbi' : extension),
        offset: bno === undefined ? 0 : wholeNumber(name, 'bno', bno),
        length:
          file['repo-size'] === undefined ? entry.size : wholeNumber(name, 'repo-size', file['repo-size']),
        wholeFile: bundle === 0,
      },
      transforms: bundle !== 0 && bundleRaw ? rawForm : wholeForm,
      size: entry.size,
      ...(sha1 === undefined ? {} : { sha1 }),
      description: `${name} of backup ${label}`,
    }
  }

  return (file, entry) => {
    const name = manifestName(entry.path)
    try {
      const found = stored(file, name, entry)
      return isBlockIncremental(file) ? composed(file, name, entry, found) : found
    } catch (error) {
      if (!(error instanceof MalformedInfo)) throw error
      throw new HowdahError(
        'backup_damaged',
        `the manifest of backup ${label} is damaged: ${error.message}`,
        {
          cause: error,
        },
      )
    }
  }
}

const isBlockIncremental = ({ bi, bim }: ManifestFile) => bi !== undefined && bim !== undefined && bim !== 0
