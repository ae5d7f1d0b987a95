/** A connection to an SFTP server, with a promise for each operation and a deadline for connecting. */
import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import ssh2, { type ConnectConfig, type SFTPWrapper } from 'ssh2'
import { fingerprintOf, type KnownKeys } from '../../../../config/ssh/known-hosts.ts'
import { HowdahError } from '../../../../messages/errors.ts'

export interface SftpClient {
  /** The names in a directory; undefined if it does not exist. */
  list(path: string): Promise<string[] | undefined>
  makeDirectory(path: string): Promise<void>
  rename(from: string, to: string): Promise<void>
  /** Removes a file, or a directory recursively. No error if it does not exist. */
  remove(path: string): Promise<void>
  removeDirectory(path: string): Promise<void>
  /** Writes a new file. @returns its size and SHA-256 */
  upload(source: Readable, path: string, progress: (bytes: number) => void): Promise<Uploaded>
  close(): void
}

export interface Uploaded {
  readonly bytes: number
  readonly sha256: string
}

export interface SftpAddress {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password?: string | undefined
  readonly privateKey?: string | undefined
  readonly passphrase?: string | undefined
  readonly known: KnownKeys
}

const CONNECT_DEADLINE_MS = 20_000
const KEEPALIVE_MS = 10_000
/** Concurrent writes of one file, to hide the latency of a distant server. */
const WRITES_AT_ONCE = 32
/** draft-ietf-secsh-filexfer-02, 3: servers must accept packets of at least 34000 bytes. */
const WRITE_BYTES = 32 * 1024
const NO_SUCH_FILE = 2
const DIRECTORY_MODE = 0o040000
const TYPE_MASK = 0o170000

/** @throws HowdahError `export_failed` when it cannot be reached; `unauthorized` when host key or credential is refused */
export async function connectSftp(address: SftpAddress, signal: AbortSignal): Promise<SftpClient> {
  signal.throwIfAborted()
  const client = new ssh2.Client()
  const end = (): void => {
    client.destroy()
  }
  signal.addEventListener('abort', end, { once: true })
  const lost = new AbortController()
  try {
    const sftp = await openSftp(client, address)
    client.on('error', (error) => lost.abort(error))
    client.on('close', () => lost.abort(new Error('the connection was closed')))
    return sftpClient(sftp, {
      where: `${address.host}:${address.port}`,
      lost: AbortSignal.any([lost.signal, signal]),
      close: () => {
        signal.removeEventListener('abort', end)
        client.end()
      },
    })
  } catch (error) {
    signal.removeEventListener('abort', end)
    client.on('error', () => undefined)
    client.destroy()
    signal.throwIfAborted()
    throw error
  }
}

async function openSftp(
  client: InstanceType<typeof ssh2.Client>,
  address: SftpAddress,
): Promise<SFTPWrapper> {
  const { host, port, user, password, privateKey, passphrase, known } = address
  let refused: HowdahError | undefined
  const config: ConnectConfig = {
    host,
    port,
    username: user,
    ...(password !== undefined && { password }),
    ...(privateKey !== undefined && { privateKey }),
    ...(passphrase !== undefined && { passphrase }),
    readyTimeout: CONNECT_DEADLINE_MS,
    keepaliveInterval: KEEPALIVE_MS,
    hostVerifier: (key: Buffer) => {
      const accepted = known.accepts(key)
      if (!accepted)
        refused = new HowdahError(
          'unauthorized',
          `the host key of ${host}:${port} (${fingerprintOf(key)}) is not a known one. Compare it with the server's, and put it into the credential's knownHostsFile or hostKeyFingerprint.`,
          { field: 'destination.credential' },
        )
      return accepted
    },
    ...(known.algorithms.length > 0 && {
      algorithms: { serverHostKey: [...known.algorithms] } as NonNullable<ConnectConfig['algorithms']>,
    }),
  }
  return new Promise((resolve, reject) => {
    client.on('ready', () =>
      client.sftp((error, sftp) => {
        if (error) reject(failed(`${host}:${port} has no SFTP`, error))
        else resolve(sftp)
      }),
    )
    client.on('error', (error: Error & { level?: string }) =>
      reject(
        refused ??
          (error.level === 'client-authentication'
            ? new HowdahError('unauthorized', `${host}:${port} refuses this credential of "${user}"`, {
                field: 'destination.credential',
                cause: error,
              })
            : failed(`${host}:${port} cannot be reached`, error)),
      ),
    )
    client.on('close', () => reject(refused ?? failed(`${host}:${port} closed the connection`)))
    client.connect(config)
  })
}

interface SftpSession {
  readonly where: string
  readonly lost: AbortSignal
  readonly close: () => void
}

function sftpClient(sftp: SFTPWrapper, { where, lost, close }: SftpSession): SftpClient {
  /** Wraps an operation with a callback; rejects when the connection is lost, since then no callback comes. */
  function operation<T>(
    what: string,
    begin: (done: (error?: unknown, value?: T) => void) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = (): void => reject(failed(`${what} on ${where}`, lost.reason))
      if (lost.aborted) return end()
      lost.addEventListener('abort', end, { once: true })
      begin((error, value) => {
        lost.removeEventListener('abort', end)
        if (error) reject(failed(`${what} on ${where}`, error))
        else resolve(value as T)
      })
    })
  }

  async function entries(path: string) {
    try {
      return await operation<{ filename: string; attrs: { mode: number } }[]>(`listing ${path}`, (done) =>
        sftp.readdir(path, (error, list) => done(error, list)),
      )
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  }

  const unlessMissing = async (work: Promise<unknown>): Promise<void> => {
    await work.catch((error: unknown) => {
      if (!isMissing(error)) throw error
    })
  }

  const removeDirectory = (path: string): Promise<void> =>
    operation(`removing ${path}`, (done) => sftp.rmdir(path, done))

  const removeFile = (path: string): Promise<void> =>
    operation(`removing ${path}`, (done) => sftp.unlink(path, done))

  async function remove(path: string): Promise<void> {
    const stat = await operation<{ mode: number }>(`looking at ${path}`, (done) =>
      sftp.lstat(path, (error, attributes) => done(error, attributes)),
    ).catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw error
    })
    if (!stat) return
    if ((stat.mode & TYPE_MASK) !== DIRECTORY_MODE) return unlessMissing(removeFile(path))
    for (const { filename } of (await entries(path)) ?? []) await remove(`${path}/${filename}`)
    await unlessMissing(removeDirectory(path))
  }

  return {
    async list(path) {
      return (await entries(path))?.map(({ filename }) => filename)
    },
    makeDirectory: (path) => operation(`making ${path}`, (done) => sftp.mkdir(path, { mode: 0o700 }, done)),
    rename: (from, to) => operation(`renaming ${from}`, (done) => sftp.rename(from, to, done)),
    remove,
    removeDirectory,
    async upload(source, path, progress) {
      const handle = await operation<Buffer>(`making ${path}`, (done) =>
        sftp.open(path, 'wx', { mode: 0o600 }, (error, opened) => done(error, opened)),
      )
      const hash = createHash('sha256')
      let bytes = 0
      let failure: unknown
      const pending = new Set<Promise<void>>()
      for await (const chunk of source as AsyncIterable<Buffer>) {
        hash.update(chunk)
        for (let at = 0; at < chunk.length; at += WRITE_BYTES) {
          const part = chunk.subarray(at, at + WRITE_BYTES)
          const position = bytes + at
          const write = operation<void>(`writing ${path}`, (done) =>
            sftp.write(handle, part, 0, part.length, position, done),
          ).catch((error: unknown) => {
            failure ??= error
          })
          pending.add(write)
          void write.finally(() => pending.delete(write))
          if (pending.size >= WRITES_AT_ONCE) await Promise.race(pending)
        }
        if (failure !== undefined) throw failure
        bytes += chunk.length
        progress(bytes)
      }
      await Promise.all(pending)
      if (failure !== undefined) throw failure
      await operation<void>(`closing ${path}`, (done) => sftp.close(handle, done))
      return { bytes, sha256: hash.digest('hex') }
    },
    close,
  }
}

function failed(what: string, cause?: unknown): HowdahError {
  const why = cause instanceof Error ? `: ${cause.message}` : ''
  return new HowdahError('export_failed', `${what}${why}`, { cause, field: 'destination' })
}

function isMissing(error: unknown): boolean {
  return (error as { cause?: { code?: unknown } }).cause?.code === NO_SUCH_FILE
}
