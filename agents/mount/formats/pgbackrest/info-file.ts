/**
 * Reading backup.info, archive.info and backup.manifest from disk: the file itself, or its `.copy` when the first is
 * missing or damaged, as pgBackRest does.
 */
import { constants } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import { MalformedInfo } from './ini.ts'

/** No cluster comes near; whoever plants a larger one wants our memory. */
const MAX_BYTES = 1024 ** 3

/**
 * Parses the first of `<path>` and `<path>.copy` that is there and in order.
 * @param parse throws MalformedInfo for contents that are not
 * @throws HowdahError `backup_damaged` when neither is, `backup_unsupported` for an encrypted one, `repository_unavailable`
 */
export async function readInfoFile<T>(root: string, path: string, parse: (bytes: Buffer) => T): Promise<T> {
  const findings: string[] = []
  for (const candidate of [path, `${path}.copy`]) {
    try {
      return parse(await readBounded(root, candidate))
    } catch (error) {
      if (error instanceof MalformedInfo) findings.push(`${candidate}: ${error.message}`)
      else if (isSystemError(error) && error.code === 'ENOENT') findings.push(`${candidate} is missing`)
      else if (isSystemError(error)) {
        throw new HowdahError('repository_unavailable', `${candidate} cannot be read: ${error.code}`, {
          cause: error,
        })
      } else throw error
    }
  }
  throw new HowdahError(
    'backup_damaged',
    `neither ${path} nor its copy can be used: ${findings.join('; ')}; check the repository with pgbackrest`,
  )
}

async function readBounded(root: string, path: string): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const [where, inside, stat] = await Promise.all([
      realpath(`/proc/self/fd/${file.fd}`),
      realpath(root),
      file.stat(),
    ])
    if (!where.startsWith(`${inside}/`)) throw new MalformedInfo('it leads out of the repository')
    if (!stat.isFile()) throw new MalformedInfo('it is not a regular file')
    if (stat.size > MAX_BYTES) throw new MalformedInfo(`${stat.size} bytes are too large`)
    const bytes = await file.readFile()
    if (bytes.subarray(0, 8).toString('latin1') === 'Salted__') {
      throw new HowdahError(
        'backup_unsupported',
        `${path} is encrypted; Howdah cannot read encrypted pgBackRest repositories yet`,
      )
    }
    return bytes
  } finally {
    await file.close()
  }
}
