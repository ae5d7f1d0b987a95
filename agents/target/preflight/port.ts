/** Checks whether a TCP port is free on the loopback addresses, and chooses one. */
import { createServer } from 'node:net'
import type { Finding, Lookup } from './settings.ts'

/** Why a port cannot be bound: an errno such as EADDRINUSE or EACCES; undefined if it can. */
export async function portProblem(port: number): Promise<string | undefined> {
  return (await bindProblem(port, '127.0.0.1')) ?? (await bindProblem(port, '::1'))
}

/**
 * @param asked the port of the request; never replaced by another
 * @param reserved ports of other sessions
 * @param own the port on which this session's instance is already running
 */
export async function lookUpPort(
  asked: number | undefined,
  range: readonly [number, number],
  reserved: ReadonlySet<number>,
  own: number | undefined,
): Promise<Lookup<number>> {
  if (own !== undefined && (asked ?? own) === own) return { value: own }
  if (asked !== undefined) {
    if (reserved.has(asked)) return refused(`Port ${asked} belongs to another session of this target.`)
    const problem = await portProblem(asked)
    if (problem === undefined) return { value: asked }
    return refused(
      problem === 'EADDRINUSE'
        ? `Port ${asked} is in use on the target (who by: ss -ltnp 'sport = :${asked}'). Choose another with --port, or leave --port out.`
        : `Port ${asked} cannot be listened on (${problem}). Choose another with --port, or leave --port out.`,
    )
  }
  const [first, last] = range
  for (let port = first; port <= last; port++) {
    if (!reserved.has(port) && (await portProblem(port)) === undefined) return { value: port }
  }
  return refused(
    `All ports from ${first} to ${last} are in use on the target. Unpublish a session, widen the range in the target agent's configuration, or choose one with --port.`,
  )
}

function refused(message: string): { findings: Finding[] } {
  return { findings: [{ code: 'port_taken', message, field: 'port' }] }
}

function bindProblem(port: number, host: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      // Without IPv6 the address does not exist, so it cannot be in use.
      const absent = error.code === 'EADDRNOTAVAIL' || error.code === 'EAFNOSUPPORT'
      resolve(absent ? undefined : (error.code ?? error.message))
    })
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}
