/** RabbitMQ's management API, as far as users and the set-up of a broker need it. */
import http from 'node:http'
import https from 'node:https'
import { text } from 'node:stream/consumers'
import { HowdahError } from '../../../messages/errors.ts'

const DEADLINE_MS = 60_000
const MAX_REASON = 500

export interface Management {
  /** `http://host:15672` or `https://…`, without a user. */
  readonly url: string
  /** A user with the tag administrator. */
  readonly user: string
  readonly password: string
  /** The authority that signed the certificate of an `https://…`; default: those that Node knows. PEM. */
  readonly ca?: Buffer | undefined
  /** Of one request; default 60 s. */
  readonly deadlineMs?: number
}

/** @param given `http://user:password@host:15672` or `https://…` */
export function managementAt(given: URL): Management {
  const url = new URL(given)
  url.username = ''
  url.password = ''
  const [user, password] = [decodeURIComponent(given.username), decodeURIComponent(given.password)]
  return { url: url.href, user, password }
}

/**
 * Imports a definitions document. What exists already and is not in the document stays as it is.
 * @throws HowdahError `broker_unavailable` | `unauthorized` | `configuration`; the password is in none of them
 */
export async function importDefinitions(management: Management, definitions: object): Promise<void> {
  await request(management, {
    method: 'POST',
    path: 'definitions',
    body: definitions,
    to: 'import definitions',
  })
}

/** Removes a user, whose connections RabbitMQ then closes. It need not exist. @throws as `importDefinitions` */
export async function removeUser(management: Management, user: string): Promise<void> {
  const path = `users/${encodeURIComponent(user)}`
  await request(management, { method: 'DELETE', path, to: 'remove users', absent: true })
}

interface ManagementRequest {
  readonly method: 'POST' | 'DELETE'
  readonly path: string
  readonly body?: object
  /** Completes "does not let this user …". */
  readonly to: string
  /** Whether it is no error that there is no such thing. */
  readonly absent?: boolean
}

async function request(management: Management, { method, path, body, to, absent }: ManagementRequest) {
  const base = management.url.endsWith('/') ? management.url : `${management.url}/`
  const endpoint = new URL(`api/${path}`, base)
  const { status, reason } = await exchange(management, endpoint, method, body).catch((cause: Error) => {
    throw new HowdahError(
      'broker_unavailable',
      `the management API at ${endpoint.origin} cannot be reached: ${cause.message}. Is the plugin rabbitmq_management enabled?`,
      { cause },
    )
  })
  if ((status >= 200 && status < 300) || (absent && status === 404)) return
  if (status === 401 || status === 403) {
    throw new HowdahError(
      'unauthorized',
      `the management API at ${endpoint.origin} does not let this user ${to}: it needs the tag administrator. ${reason}`,
    )
  }
  throw new HowdahError(
    status >= 500 ? 'broker_unavailable' : 'configuration',
    `the management API at ${endpoint.origin} refused to ${to} (status ${status}): ${reason}`,
  )
}

async function exchange(
  { user, password, ca, deadlineMs = DEADLINE_MS }: Management,
  endpoint: URL,
  method: string,
  body: object | undefined,
): Promise<{ status: number; reason: string }> {
  const content = body === undefined ? undefined : JSON.stringify(body)
  const options = {
    ...{ method, auth: `${user}:${password}`, ca, agent: false },
    headers: content === undefined ? {} : { 'content-type': 'application/json' },
    signal: AbortSignal.timeout(deadlineMs),
  }
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>()
  const sent = (endpoint.protocol === 'https:' ? https : http).request(endpoint, options, resolve)
  sent.on('error', reject)
  sent.end(content)
  const response = await promise
  return { status: response.statusCode ?? 0, reason: (await text(response)).slice(0, MAX_REASON) }
}
