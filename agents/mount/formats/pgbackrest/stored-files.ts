/**
 * Where pgBackRest keeps the bytes of a file: in the backup that owns them, as a file with the compression's extension,
 * or as a part of a bundle (src/info/manifest.c, src/command/backup/file.c).
 */
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { TreeEntry } from '../../../dataplane/backup-source.ts'
import type { Compression, StoredFile } from '../../decode/stored-file.ts'
import { type ManifestFile, manifestName, whole } from './manifest.ts'

const COMPRESSIONS: Readonly<Record<string, Compression | null>> = {
  none: null,
  gz: 'gz',
  zst: 'zst',
  lz4: 'lz4',
  bz2: 'bz2',
}

/**
 * The references of the files must be labels of the stanza's backups.
 * @throws HowdahError `backup_unsupported` for a compression that is not known
 */
export function storedFiles(
  root: string,
  stanzaDirectory: string,
  label: string,
  compressType: string,
): (file: ManifestFile, entry: TreeEntry) => StoredFile {
  const compression = COMPRESSIONS[compressType]
  if (compression === undefined) {
    throw new HowdahError('backup_unsupported', `backup ${label} is compressed by ${compressType}`)
  }
  const extension = compression === null ? '' : `.${compression}`
  return (file, { path, size }) => {
    const name = manifestName(path)
    const { checksum, reference, bni, bno } = file
    const owner = join(stanzaDirectory, reference === undefined ? label : String(reference))
    const sha1 = typeof checksum === 'string' && /^[0-9a-f]{40}$/.test(checksum) ? checksum : undefined
    return {
      region: {
        root,
        path:
          bni === undefined
            ? join(owner, name + extension)
            : join(owner, 'bundle', String(whole(name, 'bni', bni))),
        offset: bno === undefined ? 0 : whole(name, 'bno', bno),
        length: file['repo-size'] === undefined ? size : whole(name, 'repo-size', file['repo-size']),
        wholeFile: bni === undefined,
      },
      transforms: compression === null ? [] : [{ kind: 'decompress', compression }],
      size,
      ...(sha1 === undefined ? {} : { sha1 }),
      description: `${name} of backup ${label}`,
    }
  }
}
