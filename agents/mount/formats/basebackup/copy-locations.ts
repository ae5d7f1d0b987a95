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

/** Where the bytes of a node are: a file's path, or a member's archive and offset. */
export type CopySource = string | readonly [archive: StoredFile, offset: number]
