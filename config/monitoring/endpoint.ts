/**
 * The HTTP endpoint of a role: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and watches processes.
 * It only reads, has neither TLS nor login, and is bounded: however many ask, or read slowly, metrics are collected once at
 * a time, and every connection ends.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Logger } from 'pino'
import { ConfigurationError } from '../configuration-error.ts'
import type { RoleMonitor } from './monitor.ts'

export interface MonitoringEndpoint {
  readonly address: { readonly host: string; readonly port: number }
  close(): Promise<void>
}

export interface MonitoringEndpointOptions {
  /** `HOST:PORT`; port 0: the kernel chooses. */
  readonly listen: string
  readonly monitor: RoleMonitor
  readonly logger: Logger
  readonly limits?: Partial<EndpointLimits>
}

export interface EndpointLimits {
  /** Connections beyond it are closed at once. */
  readonly connections: number
  /** How long a request may take to arrive, and an answer to be read, ms. */
  readonly exchangeMs: number
  /** How long the metrics may take to be collected, ms. */
  readonly collectMs: number
}

const LIMITS: EndpointLimits = { connections: 32, exchangeMs: 10_000, collectMs: 5_000 }
const TEXT = 'text/plain; charset=utf-8'
const JSON_TYPE = 'application/json; charset=utf-8'
const MAX_HEADER_BYTES = 8 * 1024

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** @throws ConfigurationError when the address cannot be listened on */
export async function openMonitoringEndpoint(
  options: MonitoringEndpointOptions,
): Promise<MonitoringEndpoint> {
  const { listen, monitor, logger } = options
  const limits = { ...LIMITS, ...options.limits }
  const answerTo = createAnswers(monitor, limits)
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: limits.exchangeMs,
      requestTimeout: limits.exchangeMs,
      connectionsCheckingInterval: limits.exchangeMs / 10,
    },
    (request, response) => {
      answerTo(request).then(
        (answer) => send(request, response, answer, limits.exchangeMs),
        (error: unknown) => {
          logger.warn({ err: error, path: pathOf(request) }, 'a request for metrics or health failed')
          const body = 'the metrics could not be collected; the log says why\n'
          send(request, response, { status: 500, type: TEXT, body }, limits.exchangeMs)
        },
      )
    },
  )
  server.maxConnections = limits.connections
  await startListening(server, listen)
  server.on('error', (error) => logger.error({ err: error }, 'the endpoint of metrics failed'))
  const { address, port } = server.address() as AddressInfo
  // The role lives as long as its work, not as long as somebody may ask.
  server.unref()
  return {
    address: { host: address, port },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

function createAnswers(
  { registry, readiness }: RoleMonitor,
  { collectMs }: EndpointLimits,
): (request: IncomingMessage) => Promise<Answer> {
  let collecting: Promise<string> | undefined

  /** One collection at a time, for all who ask meanwhile; one that hangs is not begun a second time. */
  function collect(): Promise<string> {
    collecting ??= registry.metrics().finally(() => {
      collecting = undefined
    })
    return collecting
  }

  async function metrics(): Promise<Answer> {
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, collectMs)
    try {
      const body = await Promise.race([collect(), late])
      if (typeof body === 'string') return { status: 200, type: registry.contentType, body }
      return {
        status: 503,
        type: TEXT,
        body: `the metrics were not collected within ${collectMs / 1000} s\n`,
      }
    } finally {
      clearTimeout(timer)
    }
  }

  async function ready(): Promise<Answer> {
    const problems = await readiness.problems()
    const body = { status: problems.length === 0 ? 'ready' : 'not ready', problems }
    return {
      status: problems.length === 0 ? 200 : 503,
      type: JSON_TYPE,
      body: `${JSON.stringify(body)}\n`,
    }
  }

  return async (request) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return { status: 405, type: TEXT, body: 'only GET and HEAD are answered\n' }
    }
    switch (pathOf(request)) {
      case '/metrics':
        return metrics()
      // That it is answered is the answer: it comes from the event loop that does the work of the role.
      case '/healthz':
        return { status: 200, type: JSON_TYPE, body: '{"status":"alive"}\n' }
      case '/readyz':
        return ready()
      default:
        return { status: 404, type: TEXT, body: 'there are /metrics, /healthz and /readyz\n' }
    }
  }
}

function pathOf({ url = '' }: IncomingMessage): string {
  return url.split('?', 1)[0] ?? ''
}

/** A client that does not take the answer in time loses its connection. */
function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, type, body }: Answer,
  ms: number,
): void {
  const timer = setTimeout(() => request.socket.destroy(), ms)
  response.once('close', () => clearTimeout(timer))
  response.on('error', () => request.socket.destroy())
  const headers = {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(status === 405 && { allow: 'GET, HEAD' }),
  }
  // A body that was sent along is not read.
  if (status === 405) response.shouldKeepAlive = false
  response.writeHead(status, headers).end(request.method === 'HEAD' ? undefined : body)
}

async function startListening(server: Server, listen: string): Promise<void> {
  const { hostname, port } = new URL(`http://${listen}`)
  // A URL drops the default port of its protocol, and writes an IPv6 address in brackets.
  const host = hostname.replace(/^\[|\]$/g, '')
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new ConfigurationError(
          `metrics.listen: cannot listen on ${listen}: ${cause.message}. Each role of a machine needs a port of its own.`,
          { cause },
        ),
      ),
    )
    server.listen(Number(port || 80), host, resolve)
  })
  server.removeAllListeners('error')
}
