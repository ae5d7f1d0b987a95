/**
 * Reading backup.info, archive.info and backup.manifest from disk: the file itself, or its `.copy` when the first is
 * missing or damaged, as pgBackRest does. In an encrypted repository they are encrypted, each kind with a passphrase of
 * its own.
 */
import { constants } from 'node:fs'
import { type FileHandle, open, realpath } from 'node:fs/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { decryptAll, decryptHead, looksEncrypted, type Passphrase } from '../../decode/aes-cbc.ts'
import {
  type AllowedRoots,
  isBelowRoots,
  outsideLinkError,
  resolveRoots,
} from '../../decode/allowed-roots.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import { MalformedInfo } from './ini.ts'

/** No cluster comes near it; a larger one is an attempt to exhaust memory. */
const MAX_BYTES = 1024 ** 3

/** What is needed to read such a file. */
export interface InfoAccess extends AllowedRoots {
  /** Undefined: the file must not be encrypted. */
  readonly passphrase: Passphrase | undefined
  /** Where the operator gave the passphrase, or should; undefined when it is the repository's own. */
  readonly passphraseFrom?: string
}

/**
 * Parses the first of `<path>` and `<path>.copy` that exists and is valid.
 * @param parse throws MalformedInfo for invalid contents
 * @throws HowdahError `backup_damaged` when neither is valid, `configuration` when the operator's passphrase is
 *   missing, wrong or not needed, `repository_unavailable`
 */
export async function readInfoFile<T>(
  access: InfoAccess,
  path: string,
  parse: (bytes: Buffer) => T | Promise<T>,
): Promise<T> {
  const findings: string[] = []
  let refused: PassphraseRefused | undefined
  for (const candidate of [path, `${path}.copy`]) {
    try {
      return await parse(decrypted(access, await readBounded(access, candidate)))
    } catch (error) {
      if (error instanceof MalformedInfo) findings.push(`${candidate}: ${error.message}`)
      else if (isSystemError(error) && error.code === 'ENOENT') findings.push(`${candidate} is missing`)
      else if (isSystemError(error)) {
        throw new HowdahError('repository_unavailable', `${candidate} cannot be read: ${error.code}`, {
          cause: error,
        })
      } else throw error
      if (error instanceof PassphraseRefused) refused = error
    }
  }
  if (refused !== undefined && access.passphraseFrom !== undefined) {
    throw new HowdahError('configuration', `${path}: ${refused.message}; ${access.passphraseFrom}`)
  }
  throw new HowdahError(
    'backup_damaged',
    `neither ${path} nor its copy can be used: ${findings.join('; ')}; check the repository with pgbackrest`,
  )
}

/**
 * The first bytes of such a file, plain, or fewer where it is shorter; of its copy when it cannot be read itself.
 * Undefined when neither can. Nothing of it is checked.
 */
export async function readInfoHead(
  access: InfoAccess,
  path: string,
  bytes: number,
): Promise<Buffer | undefined> {
  for (const candidate of [path, `${path}.copy`]) {
    try {
      const head = await withFile(access, candidate, async (file) => {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0)
        return buffer.subarray(0, bytesRead)
      })
      if (access.passphrase === undefined) return head
      return decryptHead(head, access.passphrase, false)
    } catch {
      // Opening the backup reports what is wrong with it.
    }
  }
  return undefined
}

/** The passphrase does not fit the file or its copy; the other one may still be valid. */
class PassphraseRefused extends MalformedInfo {}

function decrypted({ passphrase }: InfoAccess, stored: Buffer): Buffer {
  if (passphrase === undefined) {
    if (looksEncrypted(stored))
      throw new PassphraseRefused('it is encrypted, and there is no passphrase for it')
    return stored
  }
  if (!looksEncrypted(stored)) {
    throw new PassphraseRefused('it is not encrypted, although there is a passphrase for it')
  }
  // A wrong passphrase yields noise from the first byte on, damage only from where it is.
  if (!beginsLikeInfo(decryptHead(stored.subarray(0, 32), passphrase, false))) {
    throw new PassphraseRefused('the passphrase does not open it')
  }
  try {
    return decryptAll(stored, passphrase, false)
  } catch (error) {
    throw new MalformedInfo('it does not decrypt to its end', { cause: error })
  }
}

/** With a section, as all such files do. */
const beginsLikeInfo = (plain: Buffer) => /^\[[\x20-\x7e\n]{15}$/.test(plain.toString('latin1'))

async function withFile<T>(
  roots: AllowedRoots,
  path: string,
  work: (file: FileHandle) => Promise<T>,
): Promise<T> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const [where, places, stat] = await Promise.all([
      realpath(`/proc/self/fd/${file.fd}`),
      resolveRoots(roots),
      file.stat(),
    ])
    if (!isBelowRoots(places, where)) throw await outsideLinkError(roots, path)
    if (!stat.isFile()) throw new MalformedInfo('it is not a regular file')
    if (stat.size > MAX_BYTES) throw new MalformedInfo(`${stat.size} bytes are too large`)
    return await work(file)
  } finally {
    await file.close()
  }
}

const readBounded = (roots: AllowedRoots, path: string) => withFile(roots, path, (file) => file.readFile())
