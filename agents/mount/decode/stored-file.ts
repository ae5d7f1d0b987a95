/**
 * Where the bytes of one file of a backup are stored: a region of a repository file, and the transforms from stored to
 * plain bytes. Format readers create these, the spool reads them; neither depends on the other.
 *
 * This folder has what reading them takes: opening files within the allowed roots (open-file.ts, descriptor-cache.ts),
 * transforms (transform.ts) and checksums. It keeps nothing but open descriptors and worker threads, and knows no
 * format.
 */
import { HowdahError } from '../../../messages/errors.ts'
import type { Passphrase } from './aes-cbc.ts'
import type { AllowedRoots } from './allowed-roots.ts'
import type { Checksummed } from './checksum.ts'

/** `zlib` is deflate with the header of RFC 1950. */
export type Compression = 'gz' | 'zlib' | 'zst' | 'lz4' | 'bz2'

/** A part of one file of a repository. */
export interface Region extends AllowedRoots {
  /** Absolute path of the file. */
  readonly path: string
  /** Bytes from the start of the file. */
  readonly offset: number
  /** Bytes; undefined: to the end of the file. */
  readonly length: number | undefined
  /** The region must be the file from its start to its end. */
  readonly wholeFile: boolean
}

/** One step from stored to plain bytes. */
export type Transform =
  | { readonly kind: 'decompress'; readonly compression: Compression }
  /** AES-256-CBC; `raw` without the magic word (aes-cbc.ts). */
  | { readonly kind: 'decrypt'; readonly passphrase: Passphrase; readonly raw: boolean }

export interface StoredFile extends Checksummed {
  readonly region: Region
  /** In the order in which they are applied when reading. Empty: read in place. */
  readonly transforms: readonly Transform[]
  /** Plain bytes; undefined where only decoding shows. */
  readonly size: number | undefined
  /**
   * The file at the region's path, if the region's offset and length refer to its plain bytes: so it is for members of
   * a compressed archive.
   */
  readonly container?: StoredFile
  /** Its name in messages, e.g. `pg_data/base/1/112 of backup 20261122-055302F`. */
  readonly description: string
}

/** A file that its format composes of parts of others. */
export interface ComposedFile {
  /** `length` bytes at `offset`; fewer only where the file ends. @throws HowdahError as `Spool.read`; the signal's reason */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Buffer>
}

/** `backup_damaged`, naming what and where. */
export const damaged = (file: StoredFile, finding: string, cause?: unknown): HowdahError =>
  damagedFile(file.description, file.region.path, finding, cause)

/** As `damaged`, for what is no stored file. @param path of the file in the repository */
export const damagedFile = (
  description: string,
  path: string,
  finding: string,
  cause?: unknown,
): HowdahError =>
  new HowdahError(
    'backup_damaged',
    `${description} is damaged: ${finding} (${path}); check the repository with its own tool, or publish another backup`,
    { cause },
  )

/**
 * Assigns an error code to any failure of reading or decoding a stored file: `repository_unavailable` for a failure of
 * the file system that is not the backup's, otherwise `backup_damaged`.
 */
export function storedFileError(error: unknown, file: StoredFile): unknown {
  if (error instanceof HowdahError) return error
  if (error instanceof Error && error.name === 'AbortError') return error
  if (!isSystemError(error)) {
    return damaged(
      file,
      `it does not decode, ${error instanceof Error ? error.message : String(error)}`,
      error,
    )
  }
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return damaged(file, 'its file is missing', error)
  if (error.code === 'ELOOP') return damaged(file, 'its path is a loop of symbolic links', error)
  return new HowdahError(
    'repository_unavailable',
    `${file.description} cannot be read: ${error.code} on ${file.region.path}`,
    { cause: error },
  )
}

/** An error of a system call: it has an errno code and the name of the call. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException & { code: string } {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string'
}
