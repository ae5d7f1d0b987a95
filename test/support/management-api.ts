/** RabbitMQ's management API as tests read it: what its console shows an operator. */

export interface ManagementApi {
  get<T>(path: string): Promise<T>
  send(method: 'PUT' | 'POST' | 'DELETE', path: string, body: object): Promise<unknown>
}

/** @param url with user and password */
export function managementApi(url: string): ManagementApi {
  const { username, password, origin } = new URL(url)
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  const headers = {
    authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
    'content-type': 'application/json',
  }

  async function call(method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(`${origin}/api/${path}`, {
      ...{ method, headers, signal: AbortSignal.timeout(30_000) },
      ...(body && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return text === '' ? undefined : JSON.parse(text)
  }

  return { get: async (path) => (await call('GET', path)) as never, send: call }
}
