/** RabbitMQ's management API, as far as the set-up of a broker needs it. */
import { HowdahError } from '../../../messages/errors.ts'

const DEADLINE_MS = 60_000
const MAX_REASON = 500

/**
 * Imports a definitions document. What exists already and is not in the document stays as it is.
 * @param url `http://user:password@host:15672` or `https://…`, of a user with the tag administrator
 * @throws HowdahError `broker_unavailable` | `unauthorized` | `configuration`; the password is in none of them
 */
export async function importDefinitions(url: URL, definitions: object): Promise<void> {
  const { username, password } = url
  const endpoint = new URL('api/definitions', url.href.endsWith('/') ? url.href : `${url.href}/`)
  endpoint.username = ''
  endpoint.password = ''
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  let response: Response
  try {
    response = await fetch(endpoint, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify(definitions),
      signal: AbortSignal.timeout(DEADLINE_MS),
    })
  } catch (error) {
    const { cause, message } = error as Error
    const reason = cause instanceof Error ? cause.message : message
    throw new HowdahError(
      'broker_unavailable',
      `the management API at ${endpoint.origin} cannot be reached: ${reason}. Is the plugin rabbitmq_management enabled?`,
      { cause: error },
    )
  }
  if (response.ok) return
  const reason = (await response.text().catch(() => '')).slice(0, MAX_REASON)
  if (response.status === 401 || response.status === 403) {
    throw new HowdahError(
      'unauthorized',
      `the management API at ${endpoint.origin} does not let this user import definitions: it needs the tag administrator. ${reason}`,
    )
  }
  throw new HowdahError(
    'configuration',
    `the management API at ${endpoint.origin} refused the definitions (status ${response.status}): ${reason}`,
  )
}
