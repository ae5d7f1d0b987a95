/** Where bin/prepare puts the PostgreSQL servers of other majors than the machine's: `postgres`, `initdb` and `pg_ctl` only. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { POSTGRES_BIN, POSTGRES_MAJOR } from './installed-postgres.ts'

/** Oldest first. */
export const OTHER_MAJORS = ['13', '14', '16', '17', '18'] as const

export type OtherMajor = (typeof OTHER_MAJORS)[number]

const LOCK_FILE = path.join(import.meta.dirname, 'postgres-majors/package-lock.json')

/** Of the fixtures. */
type FixtureMajor = '15' | '17'

/** The directory of the programs of one major. */
export function binariesOf(major: OtherMajor | FixtureMajor): string {
  const hash = createHash('sha256').update(readFileSync(LOCK_FILE)).digest('hex').slice(0, 16)
  return `/var/cache/howdah-test/postgres-${hash}/node_modules/postgres-${major}/native/bin`
}

/** For `postgres.binaryDirectories` of a target that publishes fixtures: the machine's own servers come first. */
export const FIXTURE_BINARIES = ['/usr/lib/postgresql/%v/bin', binariesOf('15'), binariesOf('17')]

export interface MajorBinaries {
  readonly version: string
  readonly binaries: string
}

/** The servers of all majors that are here, oldest first: these, and the machine's own. */
export function everyMajor(): readonly MajorBinaries[] {
  const others = OTHER_MAJORS.filter((version) => version !== POSTGRES_MAJOR)
  return [
    ...others.map((version) => ({ version, binaries: binariesOf(version) })),
    { version: POSTGRES_MAJOR, binaries: POSTGRES_BIN },
  ].sort((a, b) => Number(a.version) - Number(b.version))
}
