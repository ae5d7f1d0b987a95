/**
 * Finds a way into an instance as a superuser of it, whatever that is called and whichever databases there are.
 *
 * The usual names are tried first. Where none of them is let in, the catalogs' files say what else there may be.
 */
import type pg from 'pg'
import { HowdahError } from '../../../../messages/errors.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import { databaseCandidates, roleCandidates } from './catalog-names.ts'
import {
  type ClientOptions,
  endClient,
  type Identity,
  type Login,
  openClient,
  serverMessage,
  sqlState,
} from './client.ts'

export interface Entered {
  /** The caller ends it. */
  readonly client: pg.Client
  readonly as: Identity
}

export interface SuperuserOptions {
  readonly connectTimeoutMs: number
  readonly queryTimeoutMs?: number
  /** Who was let in before, and where. */
  readonly known?: Partial<Identity> | undefined
}

/** SQLSTATE codes (PostgreSQL documentation, appendix A). */
const INVALID_AUTHORIZATION = '28000'
const INSUFFICIENT_PRIVILEGE = '42501'
const INVALID_CATALOG_NAME = '3D000'
const NOT_IN_PREREQUISITE_STATE = '55000'
const TOO_MANY_CONNECTIONS = '53300'

/** The role is not there, may not log in, or is no superuser: its other databases need not be tried. */
const OF_ROLE: ReadonlySet<string> = new Set([INVALID_AUTHORIZATION, INSUFFICIENT_PRIVILEGE])
/** The database is not there, is closed, or is invalid, which says nothing about others. */
const OF_DATABASE: ReadonlySet<string> = new Set([INVALID_CATALOG_NAME, NOT_IN_PREREQUISITE_STATE])

const USUAL_DATABASES = ['postgres', 'template1']
/** Each costs a connection. */
const MOST_CANDIDATES = 100
const MOST_ASKED = 10

interface Refusal extends Identity {
  readonly state: string
  readonly words: string
}

/**
 * @throws HowdahError `postgres_failed` when nobody is let in who would be of use; the error of the connection while the
 * server starts or ends
 */
export async function connectAsSuperuser(spec: InstanceSpec, options: SuperuserOptions): Promise<Entered> {
  const { known, ...timeouts } = options
  const { run } = instancePaths(spec)
  const at = { socketDirectory: run, port: spec.port, version: spec.version, ...timeouts }
  const refusals: Refusal[] = []
  const tried = new Set<string>()

  async function enter(logins: readonly Login[], databases: readonly string[]): Promise<Entered | undefined> {
    for (const { user, role } of logins) {
      const isRefused = (one: Refusal) => one.user === user && one.role === role && OF_ROLE.has(one.state)
      if (refusals.some(isRefused)) continue
      for (const database of databases) {
        const as = { user, database, ...(role !== undefined && { role }) }
        const key = JSON.stringify(as)
        if (tried.has(key)) continue
        tried.add(key)
        try {
          return { client: await openClient({ ...at, as }), as }
        } catch (error) {
          const state = stateOf(error)
          const isOrdinary = state === INSUFFICIENT_PRIVILEGE && role === undefined
          refusals.push({
            ...as,
            state,
            words: isOrdinary ? `role "${user}" is no superuser` : serverMessage(error),
          })
          if (OF_ROLE.has(state)) break
        }
      }
    }
    return undefined
  }

  const usual = [spec.superuser, 'postgres', spec.user.name].filter((name) => name !== undefined).map(asUser)
  const logins = known?.user === undefined ? usual : [{ user: known.user, role: known.role }, ...usual]
  const databases = [...new Set([known?.database ?? 'postgres', ...USUAL_DATABASES])]
  const entered = await enter(logins, databases)
  if (entered) return entered
  // What cannot be read says nothing of who there is; that nobody was let in is what is told then.
  const roles = await roleCandidates(spec).catch(() => [])
  const more = await databaseCandidates(spec).catch(() => [])
  const all = [...databases, ...more].slice(0, MOST_CANDIDATES)
  const superusers = roles.filter(({ superuser }) => superuser).map(({ name }) => asUser(name))
  const found = await enter([...logins, ...superusers.slice(0, MOST_CANDIDATES)], all)
  if (found) return found
  // Any role can tell who is a superuser now. Those of the files may have been renamed by WAL since.
  const others = roles.filter(({ superuser, login }) => !superuser && login).map(({ name }) => name)
  const told = await listSuperusers(at, others.slice(0, MOST_ASKED), all)
  const last = await enter(told, all)
  if (last) return last
  throw nobody(refusals)
}

const asUser = (user: string): Login => ({ user })

/** Asks as roles without rights, one after another, until one is let in. */
async function listSuperusers(
  at: Omit<ClientOptions, 'as'>,
  users: readonly string[],
  databases: readonly string[],
): Promise<Login[]> {
  for (const user of users)
    for (const database of databases) {
      const as = { user, database }
      try {
        const client = await openClient({ ...at, as, ordinary: true })
        try {
          const { rows } = await client.query<{ user: string; role: string | null }>(SUPERUSERS)
          return rows.map(({ user, role }) => ({ user, role: role ?? undefined }))
        } finally {
          await endClient(client)
        }
      } catch (error) {
        if (stateOf(error) === INVALID_AUTHORIZATION) break
      }
    }
  return []
}

/** Superusers that may log in, then members of those that may not. */
const SUPERUSERS = `
  SELECT l.rolname::pg_catalog.text AS "user", CASE WHEN NOT l.rolsuper THEN s.rolname::pg_catalog.text END AS role
    FROM pg_catalog.pg_roles s JOIN pg_catalog.pg_roles l
      ON l.oid = s.oid OR (NOT l.rolsuper AND pg_catalog.pg_has_role(l.oid, s.oid, 'MEMBER'))
   WHERE s.rolsuper AND l.rolcanlogin
   ORDER BY l.rolsuper DESC, s.oid, l.oid LIMIT 10`

/** @throws the error when it is of the connection, or passes by itself */
function stateOf(error: unknown): string {
  const state = sqlState(error)
  if (state === undefined || isTransientState(state)) throw error
  return state
}

/** Starting up, shutting down (class 57 of appendix A), or full: it passes by itself. */
export function isTransientState(state: string): boolean {
  return state.startsWith('57') || state === TOO_MANY_CONNECTIONS
}

/** Says what the server says, of each role and database once. */
function nobody(refusals: readonly Refusal[]): HowdahError {
  const ofOthers = refusals.filter(({ state }) => !OF_ROLE.has(state) && !OF_DATABASE.has(state))
  const ofDatabases = refusals.filter(({ state }) => OF_DATABASE.has(state))
  if (ofOthers.length > 0)
    return new HowdahError('postgres_failed', `PostgreSQL refuses connections: ${listed(ofOthers)}.`)
  if (ofDatabases.length > 0)
    return new HowdahError(
      'postgres_failed',
      `No database of the instance takes connections: ${listed(ofDatabases)}. In production, ALTER DATABASE … ALLOW_CONNECTIONS true, and publish a backup or a recovery target after that.`,
    )
  return new HowdahError(
    'postgres_failed',
    `No superuser of the instance is let in: ${listed(refusals)}. If there is another, name it by "--superuser"; else give one the right in production (ALTER ROLE … SUPERUSER LOGIN), and publish a backup or a recovery target after that.`,
  )
}

const MOST_LISTED = 6

function listed(refusals: readonly Refusal[]): string {
  const words = [...new Set(refusals.map((refusal) => `${refusal.words} (SQLSTATE ${refusal.state})`))]
  const more = words.length > MOST_LISTED ? `; and ${words.length - MOST_LISTED} more` : ''
  return words.slice(0, MOST_LISTED).join('; ') + more
}
