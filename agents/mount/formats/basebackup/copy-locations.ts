/** Where the parts of a copy of a cluster are, and the bytes of their files. */
import type { StoredFile } from '../../decode/stored-file.ts'

export type Location =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'archive'; readonly file: StoredFile }

export interface TablespaceLocation {
  readonly oid: string
  /** Where it was in production. */
  readonly target: string
  readonly place: Location
}

/** A directory on disk, and its path in the tree; one object for all of its files, of which there may be a million. */
export interface CopyDirectory {
  readonly directory: string
  readonly at: string
}

/** Where the bytes of a node are: at its path below a directory, or in an archive from an offset on. */
export type CopySource = CopyDirectory | readonly [archive: StoredFile, offset: number]

/** The file of a tree path on disk. */
export const pathBelow = ({ directory, at }: CopyDirectory, path: string): string =>
  `${directory}${path.slice(at.length)}`
