/**
 * Where pgBackRest keeps the bytes of a file: in the backup that owns them, as a file with the compression's extension,
 * or as a part of a bundle (src/info/manifest.c, src/command/backup/file.c).
 */
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Compression, StoredFile } from '../../decode/stored-file.ts'
import type { ManifestFile } from './manifest.ts'

const COMPRESSIONS: Readonly<Record<string, Compression | null>> = {
  none: null,
  gz: 'gz',
  zst: 'zst',
  lz4: 'lz4',
  bz2: 'bz2',
}

/** @throws HowdahError `backup_unsupported` for a compression that is not known */
export function storedFiles(
  root: string,
  stanzaDirectory: string,
  label: string,
  compressType: string,
): (file: ManifestFile, size: number) => StoredFile {
  const compression = COMPRESSIONS[compressType]
  if (compression === undefined) {
    throw new HowdahError('backup_unsupported', `backup ${label} is compressed by ${compressType}`)
  }
  const extension = compression === null ? '' : `.${compression}`
  return ({ name, repoSize, sha1, reference, bundle }, size) => {
    const owner = join(stanzaDirectory, reference ?? label)
    return {
      region: {
        root,
        path: bundle === undefined ? join(owner, name + extension) : join(owner, 'bundle', String(bundle.id)),
        offset: bundle?.offset ?? 0,
        length: repoSize,
        wholeFile: bundle === undefined,
      },
      transforms: compression === null ? [] : [{ kind: 'decompress', compression }],
      size,
      ...(sha1 === undefined ? {} : { sha1 }),
      description: `${name} of backup ${label}`,
    }
  }
}
