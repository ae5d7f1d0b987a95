/**
 * Checks whether the target has the locales of a backup's databases, in the version with which their indexes were built.
 *
 * PostgreSQL refuses connections to a database whose libc locale is missing (src/backend/utils/init/postinit.c,
 * CheckMyDatabase), and warns when the version of a collation differs.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { CatalogSummary } from '../../../messages/steps.ts'
import type { Finding } from './settings.ts'

const run = promisify(execFile)

/** Always available, and without a version. */
const BUILT_IN: ReadonlySet<string> = new Set(['C', 'POSIX'])

export interface SystemLocales {
  /** Normalised names. */
  readonly names: ReadonlySet<string>
  /** Version of the C library, which is that of its collations; undefined: unknown. */
  readonly version: string | undefined
}

/** From `locale -a` and `getconf`. @throws when `locale` cannot be run */
export async function systemLocales(): Promise<SystemLocales> {
  const options = { timeout: 10_000, env: { LC_ALL: 'C', PATH: process.env.PATH ?? '/usr/bin:/bin' } }
  const { stdout } = await run('locale', ['-a'], options)
  const names = new Set(stdout.split('\n').filter(Boolean).map(normalised))
  const version = await run('getconf', ['GNU_LIBC_VERSION'], options).then(
    (found) => /^glibc (\S+)/.exec(found.stdout)?.[1],
    () => undefined,
  )
  return { names, version }
}

/** A missing locale is an error if no database would accept connections, and a warning if some would. */
export function localeFindings({ databases, locales }: CatalogSummary, system: SystemLocales): Finding[] {
  const wanting = (locale: string | undefined): locale is string =>
    locale !== undefined && !BUILT_IN.has(normalised(locale)) && !system.names.has(normalised(locale))
  const missing = new Map<string, Users>()
  const stale = new Map<string, Users>()
  let unusable = 0
  for (const { collate, ctype, provider, collationVersion, ...users } of locales) {
    const wanted = new Set([collate, ctype].filter(wanting))
    for (const locale of wanted) missing.set(locale, together(missing.get(locale), users))
    if (wanted.size > 0) unusable += users.databases
    const isLibc = provider === undefined || provider === 'libc'
    if (
      isLibc &&
      collationVersion !== undefined &&
      system.version !== undefined &&
      collationVersion !== system.version
    ) {
      stale.set(collationVersion, together(stale.get(collationVersion), users))
    }
  }
  const level = unusable === databases ? {} : { level: 'warning' as const }
  return [
    ...[...missing].map(([locale, users]) => ({
      ...level,
      code: 'locale_missing' as const,
      message: `The target lacks the locale "${locale}" of ${namedDatabases(users)}, so PostgreSQL would refuse connections there. Install or generate it (locale-gen, localedef, or the language pack of the distribution).`,
    })),
    ...[...stale].map(([version, users]) => ({
      level: 'warning' as const,
      code: 'locale_missing' as const,
      message: `The collations of ${namedDatabases(users)} are of version ${version}, the target has ${system.version}: indexes on text may be in another order. Read without them, or REINDEX, where it matters.`,
    })),
  ]
}

type Users = Pick<CatalogSummary['locales'][number], 'databases' | 'named'>

function together(some: Users | undefined, others: Users): Users {
  if (some === undefined) return others
  return { databases: some.databases + others.databases, named: [...some.named, ...others.named] }
}

/** Most databases that a message names. */
const NAMED = 5

/** Some of the databases that have something, and how many more. */
export function namedDatabases({ databases, named }: Users): string {
  const shown = named.slice(0, NAMED).map((name) => `"${name}"`)
  const more = databases - shown.length
  return `the database${databases === 1 ? '' : 's'} ${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** glibc accepts any spelling of a codeset: de_DE.UTF-8 and de_DE.utf8 are the same (locale(1), _nl_normalize_codeset). */
function normalised(locale: string): string {
  const [, language = '', codeset, modifier = ''] = /^([^.@]*)(?:\.([^@]*))?(@.*)?$/.exec(locale) ?? []
  const plain = codeset?.toLowerCase().replace(/[^a-z0-9]/g, '')
  return `${language}${plain === undefined ? '' : `.${plain}`}${modifier}`
}
