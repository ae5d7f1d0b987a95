/**
 * The bundle of an installed version, packed again on the machine where it is installed: who has the Debian package needs
 * no other file to bring agents to other servers. Kept in a cache directory with its hash beside it.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { HowdahError } from '../../../messages/errors.ts'
import { hashOf } from './bundle.ts'

const run = promisify(execFile)
const DEADLINE_MS = 300_000

/**
 * @param directory of the installed version, `…/VERSION`
 * @param cache where the bundle is kept, as root's
 * @returns the file of the bundle
 * @throws HowdahError `configuration`
 */
export async function packBundle(directory: string, cache: string): Promise<string> {
  const version = path.basename(directory)
  const name = `howdah-${version}-linux-x64.tar.gz`
  const file = path.join(cache, name)
  if (existsSync(file) && existsSync(`${file}.sha256`)) return file
  const partial = `${file}.${process.pid}.partial`
  try {
    await mkdir(cache, { recursive: true, mode: 0o755 })
    // Compiled code of Node.js that the installed programs left is of no use elsewhere.
    const args = [
      '--exclude',
      `${version}/node_modules/.cache`,
      '--transform',
      `s,^${version},howdah-${version},S`,
    ]
    await run(
      'tar',
      [
        '-C',
        path.dirname(directory),
        ...args,
        '--owner=0',
        '--group=0',
        '-I',
        'gzip -1',
        '-cf',
        partial,
        version,
      ],
      {
        timeout: DEADLINE_MS,
      },
    )
    const hash = await hashOf(partial, (await stat(partial)).size)
    await writeFile(`${file}.sha256`, `${hash}  ${name}\n`)
    await rename(partial, file)
    return file
  } catch (cause) {
    throw new HowdahError(
      'configuration',
      `the installed version in ${directory} cannot be packed to ${file}: ${(cause as Error).message}. Name a bundle with --bundle.`,
      { cause },
    )
  } finally {
    await rm(partial, { force: true })
  }
}
