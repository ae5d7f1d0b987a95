/** The destination of an export: one interface for a directory of the target, a directory over SFTP, and a live server. */

import type { RunningProgram } from '../dump/programs.ts'
import type { DatabaseSnapshot } from '../source/snapshot.ts'

export type Format = 'directory' | 'custom' | 'plain'

/** One database to be written. */
export interface DatabaseDump {
  readonly database: string
  readonly snapshot: DatabaseSnapshot
  /** Starts pg_dump with the snapshot and the tables of the export; `args` give format and target. Its stdin is closed. */
  start(args: readonly string[]): RunningProgram
  /** Reports the bytes written so far. */
  progress(bytes: number): void
  /** Reports a table whose copy starts; for destinations that copy tables themselves. */
  tableStarted(table: { readonly schema: string; readonly name: string }): void
}

export interface WrittenFile {
  /** Relative to the path of the database. */
  readonly path: string
  readonly bytes: number
  readonly sha256: string
}

export interface Written {
  /** Path of the database at the destination. */
  readonly path: string
  readonly bytes: number
  /** Missing for a live server. */
  readonly files?: readonly WrittenFile[]
  /** Differences between the destination and the source. */
  readonly notes?: readonly string[]
}

export interface Destination {
  /** Makes sure that it is writable and nothing would be overwritten. Called once, before `write`. */
  open(): Promise<void>
  /** Writes one database. Leaves nothing of it if that fails. */
  write(dump: DatabaseDump): Promise<Written>
  /** Moves everything into place, with the manifest. @returns the manifest's path; undefined: it has no place there */
  finish(manifest: string): Promise<string | undefined>
  /** Removes what this export and earlier attempts at it have written. Safe to repeat. @returns what was removed, in words */
  discard(): Promise<string[]>
  close(): Promise<void>
}

export const MANIFEST = 'howdah-export.json'

/** The name of a database's dump, by format; in the directory format it is a directory. */
export function dumpName(fileName: string, format: Format): string {
  switch (format) {
    case 'directory':
      return fileName
    case 'custom':
      return `${fileName}.dump`
    case 'plain':
      return `${fileName}.sql`
    default:
      return format satisfies never
  }
}

export const FORMAT_FLAGS: Readonly<Record<Format, string>> = {
  directory: '-Fd',
  custom: '-Fc',
  plain: '-Fp',
}
