/**
 * Connects to an instance as a superuser, whatever its name and whichever databases exist.
 *
 * The usual names are tried first. If none is admitted, the files of the catalogs supply further candidates.
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

export interface SuperuserConnection {
  /** To be ended by the caller. */
  readonly client: pg.Client
  readonly as: Identity
}

export interface SuperuserOptions {
  readonly connectTimeoutMs: number
  readonly queryTimeoutMs?: number
  /** A login and database that were admitted before. */
  readonly known?: Partial<Identity> | undefined
}

/** SQLSTATE codes (PostgreSQL documentation, appendix A). */
const INVALID_AUTHORIZATION = '28000'
const INSUFFICIENT_PRIVILEGE = '42501'
const INVALID_CATALOG_NAME = '3D000'
const NOT_IN_PREREQUISITE_STATE = '55000'
const TOO_MANY_CONNECTIONS = '53300'

/** The role does not exist, may not log in, or is no superuser: no other database needs to be tried for it. */
const ROLE_REFUSED: ReadonlySet<string> = new Set([INVALID_AUTHORIZATION, INSUFFICIENT_PRIVILEGE])
/** The database does not exist, accepts no connections, or is invalid; others may do. */
const DATABASE_REFUSED: ReadonlySet<string> = new Set([INVALID_CATALOG_NAME, NOT_IN_PREREQUISITE_STATE])

const USUAL_DATABASES = ['postgres', 'template1']
/** Each candidate costs a connection. */
const MOST_CANDIDATES = 100
const MOST_ASKED = 10

interface Refusal extends Identity {
  readonly state: string
  readonly words: string
}

/**
 * @throws HowdahError `postgres_failed` when no superuser is admitted; the error of the connection while the server starts
 * up or shuts down
 */
export async function connectAsSuperuser(
  spec: InstanceSpec,
  options: SuperuserOptions,
): Promise<SuperuserConnection> {
  const { known, ...timeouts } = options
  const { run } = instancePaths(spec)
  const at = { socketDirectory: run, port: spec.port, version: spec.version, ...timeouts }
  const refusals: Refusal[] = []
  const tried = new Set<string>()

  async function attempt(
    logins: readonly Login[],
    databases: readonly string[],
  ): Promise<SuperuserConnection | undefined> {
    for (const { user, role } of logins) {
      const isRefused = (one: Refusal) =>
        one.user === user && one.role === role && ROLE_REFUSED.has(one.state)
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
          if (ROLE_REFUSED.has(state)) break
        }
      }
    }
    return undefined
  }

  const usual = [spec.superuser, 'postgres', spec.user.name].filter((name) => name !== undefined).map(asUser)
  const logins = known?.user === undefined ? usual : [{ user: known.user, role: known.role }, ...usual]
  const databases = [...new Set([known?.database ?? 'postgres', ...USUAL_DATABASES])]
  const usualConnection = await attempt(logins, databases)
  if (usualConnection) return usualConnection
  // If the files cannot be read, the refusals so far are what is reported.
  const roles = await roleCandidates(spec).catch(() => [])
  const more = await databaseCandidates(spec).catch(() => [])
  const all = [...databases, ...more].slice(0, MOST_CANDIDATES)
  const superusers = roles.filter(({ superuser }) => superuser).map(({ name }) => asUser(name))
  const candidate = await attempt([...logins, ...superusers.slice(0, MOST_CANDIDATES)], all)
  if (candidate) return candidate
  // Any role can query the current superusers. WAL may have renamed those of the files since.
  const others = roles.filter(({ superuser, login }) => !superuser && login).map(({ name }) => name)
  const current = await listSuperusers(at, others.slice(0, MOST_ASKED), all)
  const connection = await attempt(current, all)
  if (connection) return connection
  throw refused(refusals)
}

const asUser = (user: string): Login => ({ user })

/** Queries the superusers as an unprivileged role: the first of `users` that is admitted. */
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

/** @throws the error if it is one of the connection, or transient */
function stateOf(error: unknown): string {
  const state = sqlState(error)
  if (state === undefined || isTransientState(state)) throw error
  return state
}

/** The server is starting up, shutting down (class 57 of appendix A) or has no free connection slot. */
export function isTransientState(state: string): boolean {
  return state.startsWith('57') || state === TOO_MANY_CONNECTIONS
}

/** The error with the server's messages, each once. */
function refused(refusals: readonly Refusal[]): HowdahError {
  const ofOthers = refusals.filter(({ state }) => !ROLE_REFUSED.has(state) && !DATABASE_REFUSED.has(state))
  const ofDatabases = refusals.filter(({ state }) => DATABASE_REFUSED.has(state))
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
