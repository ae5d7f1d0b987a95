/**
 * A directory on an SFTP server as destination. A dump of a single file is streamed there; one in the directory format,
 * which pg_dump writes in parallel, is written to a temporary directory on the write cache's file system and uploaded.
 */
import { chmod, lchown, mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { CredentialConfig } from '../../../../config/formats.ts'
import { type KnownKeys, keysByFingerprint, keysOfHost } from '../../../../config/ssh/known-hosts.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Destination as DestinationRequest } from '../../../../messages/exports.ts'
import type { SystemUser } from '../../postgres/specification.ts'
import { fileNameOf } from '../dump/names.ts'
import type { Programs } from '../dump/programs.ts'
import { readPassword, readSecretFile } from './credentials.ts'
import type { DatabaseDump, Destination, Format, WrittenFile } from './destination.ts'
import { dumpName, FORMAT_FLAGS, MANIFEST } from './destination.ts'
import { type Claim, dumpInto, hashFiles, notEmpty, placedNames, sum } from './local-directory.ts'
import { connectSftp, type SftpAddress, type SftpClient } from './sftp-client.ts'

export interface SftpDirectoryOptions {
  readonly request: Extract<DestinationRequest, { type: 'sftp' }>
  readonly credential: CredentialConfig
  readonly format: Format
  readonly jobs: number
  readonly user: SystemUser
  readonly programs: Programs
  readonly label: string
  /** The export's directory for temporary files. */
  readonly workDirectory: string
  readonly cachePath: string
  readonly reserveBytes: number
  readonly claim: Claim
  readonly signal: AbortSignal
}

export function sftpDirectory(options: SftpDirectoryOptions): Destination {
  const { request, credential, format, jobs, user, programs, label, claim, signal } = options
  const path = request.path.replace(/(?<=.)\/+$/, '')
  const where = `${request.host}:${path}`
  const hidden = join(path, `.howdah-${label}`)
  const written: string[] = []
  let connection: Promise<SftpClient> | undefined

  const connect = (): Promise<SftpClient> => {
    connection ??= sftpAddress(request, credential).then((address) => connectSftp(address, signal))
    return connection
  }

  async function upload(dump: DatabaseDump, target: string): Promise<WrittenFile[]> {
    const sftp = await connect()
    const program = dump.start([FORMAT_FLAGS[format]])
    try {
      const uploaded = await sftp.upload(program.stdout, target, dump.progress)
      await program.done
      return [{ path: dumpName(fileNameOf(dump.database), format), ...uploaded }]
    } catch (error) {
      program.kill()
      await program.done.catch(() => undefined)
      throw error
    }
  }

  async function uploadDirectory(dump: DatabaseDump, target: string): Promise<WrittenFile[]> {
    const sftp = await connect()
    const { workDirectory, cachePath, reserveBytes } = options
    const home = join(workDirectory, 'dump')
    const local = join(home, 'database')
    await mkdir(home, { mode: 0o700 })
    try {
      await lchown(home, user.uid, user.gid)
      await chmod(home, 0o700)
      const args = [FORMAT_FLAGS.directory, '-f', local, '-j', String(jobs)]
      const room = { directory: workDirectory, cachePath, reserveBytes }
      await dumpInto({ dump, args, target: local, room })
      const files = await hashFiles(programs, local, 'directory')
      await sftp.makeDirectory(target)
      let done = 0
      for (const { path: name, sha256 } of files) {
        const reader = programs.start('cat', ['--', join(local, name)])
        reader.stdin.end()
        const uploaded = await sftp.upload(reader.stdout, join(target, name), (bytes) =>
          dump.progress(done + bytes),
        )
        await reader.done
        if (uploaded.sha256 !== sha256)
          throw new HowdahError('export_failed', `${name} changed while it was sent`)
        done += uploaded.bytes
      }
      return files
    } finally {
      await rm(home, { recursive: true, force: true })
    }
  }

  return {
    async open() {
      const sftp = await connect()
      const entries = await sftp.list(path)
      if (entries && entries.length > 0) throw notEmpty(where, entries)
      await claim.save({ made: !entries, names: placedNames(claim.databases, format) })
      if (!entries) await sftp.makeDirectory(path)
      await sftp.makeDirectory(hidden)
    },

    async write(dump) {
      const name = dumpName(fileNameOf(dump.database), format)
      const target = join(hidden, name)
      try {
        const files = await (format === 'directory' ? uploadDirectory : upload)(dump, target)
        written.push(name)
        return { path: join(path, name), bytes: sum(files), files }
      } catch (error) {
        await connect()
          .then((sftp) => sftp.remove(target))
          .catch(() => undefined)
        throw error
      }
    },

    async finish(manifest) {
      const sftp = await connect()
      for (const name of written) await sftp.rename(join(hidden, name), join(path, name))
      const draft = join(hidden, MANIFEST)
      await sftp.upload(Readable.from([Buffer.from(manifest)]), draft, () => undefined)
      await sftp.rename(draft, join(path, MANIFEST))
      await sftp.remove(hidden)
      return join(path, MANIFEST)
    },

    async discard() {
      const claimed = claim.claimed()
      if (!claimed) return []
      const sftp = await connect()
      for (const name of claimed.names) await sftp.remove(join(path, name))
      await sftp.remove(hidden)
      if (!claimed.made) return [`emptied ${where}`]
      const left = await sftp.list(path)
      // Other files may have been created there meanwhile.
      if (left?.length === 0) await sftp.removeDirectory(path)
      return [`removed ${where}`]
    },

    async close() {
      const opened = await connection?.catch(() => undefined)
      connection = undefined
      opened?.close()
    },
  }
}

async function sftpAddress(
  { host, port = 22, user: asked }: SftpDirectoryOptions['request'],
  credential: CredentialConfig,
): Promise<SftpAddress> {
  const user = asked ?? credential.user
  const missing = (what: string): HowdahError =>
    new HowdahError('configuration', `exporting to ${host} needs ${what}`, {
      field: 'destination.credential',
    })
  if (user === undefined) throw missing('a user: in the destination, or in its credential')
  const { privateKeyFile, passphraseFile, passwordFile } = credential
  if (privateKeyFile === undefined && passwordFile === undefined)
    throw missing(
      'a credential with a privateKeyFile or a passwordFile, from the configuration of the target agent',
    )
  return {
    host,
    port,
    user,
    known: await knownKeys(credential, host, port),
    ...(privateKeyFile !== undefined && { privateKey: await readSecretFile(privateKeyFile) }),
    ...(passphraseFile !== undefined && { passphrase: await readPassword(passphraseFile) }),
    ...(passwordFile !== undefined && { password: await readPassword(passwordFile) }),
  }
}

async function knownKeys(
  { hostKeyFingerprint, knownHostsFile }: CredentialConfig,
  host: string,
  port: number,
): Promise<KnownKeys> {
  if (hostKeyFingerprint !== undefined) return keysByFingerprint(hostKeyFingerprint)
  const reason = (why: string, cause?: unknown): HowdahError =>
    new HowdahError('configuration', why, { field: 'destination.credential', cause })
  if (knownHostsFile === undefined)
    throw reason(`the credential for ${host} has neither knownHostsFile nor hostKeyFingerprint`)
  const text = await readFile(knownHostsFile, 'utf8').catch((error: Error) => {
    throw reason(`the file of known hosts cannot be read: ${error.message}`, error)
  })
  const known = keysOfHost(text, host, port)
  if (known.algorithms.length > 0) return known
  throw reason(
    `${knownHostsFile} has no key of ${host}, port ${port}. Add it after comparing it with the server's: ssh-keyscan -p ${port} ${host}.`,
  )
}
