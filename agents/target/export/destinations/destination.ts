/** Where an export goes: one interface for a directory of the target, a directory over SFTP, and a live server. */

import type { RunningProgram } from '../dump/programs.ts'
import type { DatabaseSnapshot } from '../source/snapshot.ts'

export type Format = 'directory' | 'custom' | 'plain'

/** One database, about to be written. */
export interface DatabaseDump {
  readonly database: string
  readonly snapshot: DatabaseSnapshot
  /** Begins pg_dump of it, told what and of which moment; `args` say in which form and where to. Its stdin is closed. */
  start(args: readonly string[]): RunningProgram
  /** Bytes that were written so far. */
  progress(bytes: number): void
  /** For destinations that copy tables themselves. */
  tableStarted(table: { readonly schema: string; readonly name: string }): void
}

export interface WrittenFile {
  /** Relative to where the database was written. */
  readonly path: string
  readonly bytes: number
  readonly sha256: string
}

export interface Written {
  /** Where the database is. */
  readonly path: string
  readonly bytes: number
  /** Missing: a live server has no files. */
  readonly files?: readonly WrittenFile[]
  /** What is different there from what was exported. */
  readonly notes?: readonly string[]
}

export interface Destination {
  /** Makes sure that it can be written to and holds nothing that would be overwritten. Called once, before `write`. */
  open(): Promise<void>
  /** Writes one database; when that fails nothing of it is left. */
  write(dump: DatabaseDump): Promise<Written>
  /** Puts everything in its place, with the manifest. @returns where that is; undefined: there is no place for one */
  finish(manifest: string): Promise<string | undefined>
  /** Takes away what this export, and an earlier attempt at it, left. Safe to repeat. @returns what it was, in words */
  discard(): Promise<string[]>
  close(): Promise<void>
}

export const MANIFEST = 'howdah-export.json'

/** The files of a database, by format; the directory format makes a directory. */
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
