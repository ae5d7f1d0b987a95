/** The mount process's control socket: one JSON document per line, one answer per request, local users only. */
import { rmSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { type ErrorBody, errorBody, HowdahError } from '../../../messages/errors.ts'
import type { SpaceUsage } from '../filesystem/space/space.ts'

/**
 * `status` may answer what was last known, `usage` waits for the engine. `limits`: sets the bytes that changes may use, and those that changes and `pg_wal` may; null: no
 * limit. Answers as `usage`.
 */
const ControlRequest = z.discriminatedUnion('request', [
  z.object({
    request: z.enum([
      ...['status', 'measurements', 'usage', 'sync', 'starting', 'settled', 'verify', 'unmount'],
    ] as const),
  }),
  z.object({
    request: z.literal('limits'),
    quotaBytes: z.int().min(0).nullable(),
    shareBytes: z.int().min(0).nullable(),
  }),
])
export type ControlRequest = z.infer<typeof ControlRequest>

export interface MountStatus extends SpaceUsage {
  /** Bytes read from the repository. */
  readonly fetchedBytes: number
  /** Bytes of the backup. */
  readonly totalBytes: number
  /** Whether the mount server answers now. */
  readonly connected: boolean
  /** ISO time when it stopped answering. */
  readonly lostAt?: string | undefined
  /** Reads that failed since it was last connected, because their deadline passed or it refused them. */
  readonly failedReads: number
  /** All such failed reads. */
  readonly failedReadsEver: number
  /** Requests to the mount server that wait for their answers; missing: of an earlier release. */
  readonly fetchesInFlight?: number
  /** The last failure to read the repository or the write cache. */
  readonly lastError?: string | undefined
}

type Answer = { readonly value: unknown } | { readonly error: ErrorBody }

const MAX_LINE = 4096

/** Listens; a stale socket file of a process that died is replaced. */
export async function listenForControl(
  path: string,
  handle: (request: ControlRequest) => Promise<unknown>,
): Promise<Server> {
  rmSync(path, { force: true })
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    const lines = createInterface({ input: socket })
    lines.on('error', () => undefined)
    lines.on('line', (line) => {
      if (line.length > MAX_LINE) return socket.destroy()
      reply(line, handle).then(
        (answer) => {
          if (socket.writable) socket.write(`${JSON.stringify(answer)}\n`)
        },
        () => socket.destroy(),
      )
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  return server
}

async function reply(line: string, handle: (request: ControlRequest) => Promise<unknown>): Promise<Answer> {
  try {
    const request = ControlRequest.safeParse(JSON.parse(line))
    if (!request.success) {
      throw new HowdahError(
        'unknown_message_type',
        `the mount process does not know this request: ${z.prettifyError(request.error)}`,
      )
    }
    return { value: await handle(request.data) }
  } catch (error) {
    return { error: errorBody(error) }
  }
}

/** Sends a request to a mount process. @throws HowdahError its error, or `timeout` | `mount_failed` when it does not answer */
export async function askControl<T>(
  path: string,
  request: ControlRequest | Exclude<ControlRequest['request'], 'limits'>,
  deadlineMs: number,
): Promise<T> {
  const socket = connect(path)
  try {
    const line = await new Promise<string>((resolve, reject) => {
      const fail = (cause?: unknown) =>
        reject(new HowdahError('mount_failed', `the mount process at ${path} does not answer`, { cause }))
      socket.setTimeout(deadlineMs, () =>
        reject(new HowdahError('timeout', `the mount process at ${path} did not answer in ${deadlineMs} ms`)),
      )
      socket.on('error', fail)
      socket.on('close', () => fail())
      createInterface({ input: socket }).once('line', resolve).on('error', fail)
      socket.write(`${JSON.stringify(typeof request === 'string' ? { request } : request)}\n`)
    })
    const answer = JSON.parse(line) as { value?: T; error?: ErrorBody }
    if (answer.error !== undefined) throw HowdahError.of(answer.error)
    return answer.value as T
  } finally {
    socket.destroy()
  }
}
