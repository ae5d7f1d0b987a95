/**
 * Owns the choice of the PostgreSQL that tests, the demo and benches run: the major that the distribution has, by the table
 * of bin/prepare; where that is not installed, the newest that is.
 */
import { existsSync, globSync, readFileSync } from 'node:fs'
import path from 'node:path'

const TABLE = path.join(import.meta.dirname, '../prepare/packages.txt')
/** Where packages of Debian and of PGDG for dnf put the programs of a major. */
const PLACES = ['/usr/lib/postgresql/*/bin/initdb', '/usr/pgsql-*/bin/initdb']

function installedBin(): string {
  const found = PLACES.flatMap((place) => globSync(place)).map((program) => path.dirname(program))
  const preferred = found.find((directory) => majorIn(directory) === majorOfDistribution())
  const newest = found.sort((a, b) => Number(majorIn(a)) - Number(majorIn(b))).at(-1)
  const chosen = preferred ?? newest
  if (chosen === undefined)
    throw new Error(`there is no PostgreSQL server in ${PLACES.join(' or ')}; "sh bin/prepare" installs one`)
  return chosen
}

const majorIn = (directory: string): string => /\d+(?=\/bin$)/.exec(directory)?.[0] ?? ''

function majorOfDistribution(): string | undefined {
  if (!existsSync('/etc/os-release')) return undefined
  const release = readFileSync('/etc/os-release', 'utf8')
  const value = (key: string) => new RegExp(`^${key}="?([^"\n]*)`, 'm').exec(release)?.[1]
  const lines = readFileSync(TABLE, 'utf8').split('\n')
  const columns =
    lines
      .find((line) => line.startsWith('# purpose '))
      ?.split(/\s+/)
      .slice(1) ?? []
  const names = lines.find((line) => /^demo\s+postgresql-/.test(line))?.split(/\s+/) ?? []
  const name = names[columns.indexOf(`${value('ID')}-${value('VERSION_ID')}`)]
  return /^postgresql-(\d+)$/.exec(name ?? '')?.[1]
}

export const POSTGRES_BIN = installedBin()
/** Such as `15`. */
export const POSTGRES_MAJOR = majorIn(POSTGRES_BIN)
