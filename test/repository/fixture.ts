/** The fixtures that lie beside the checkout, extracted into temporary directories. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { openRepository } from '../../agents/mount/formats/open-repository.ts'
import type { Repository, RepositoryOptions } from '../../agents/mount/repository.ts'
import { createSpool, type Spool } from '../../agents/mount/spool/spool.ts'
import { scratchDirectory } from '../support/scratch.ts'

const FIXTURES = fileURLToPath(new URL('../../../shared/fixtures/', import.meta.url))

export const quiet = pino({ level: 'silent' })

export interface Fixture {
  readonly directory: string
  /** The pgBackRest repository, stanza `demo`. */
  readonly repository: string
  readonly labels: readonly string[]
}

/** Undefined where the fixtures are not at hand. */
export async function extractFixture(name: string): Promise<Fixture | undefined> {
  const archive = join(FIXTURES, `${name}.tar.gz`)
  if (!existsSync(archive)) return undefined
  const directory = await temporaryDirectory()
  await promisify(execFile)('tar', ['xzf', archive, '-C', directory, '--no-same-owner'])
  const expected = JSON.parse(await readFile(join(directory, 'expected.json'), 'utf8')) as {
    backups: { label: string }[]
  }
  return {
    directory,
    repository: join(directory, 'repo'),
    labels: expected.backups.map(({ label }) => label),
  }
}

/** A new directory that PostgreSQL's account may enter too. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await scratchDirectory('howdah-repository-')
  await chmod(directory, 0o755)
  return directory
}

/** A repository with a spool of its own. */
export function openForTest(
  options: Omit<RepositoryOptions, 'name'>,
  spoolDirectory: string,
): { repository: Repository; spool: Spool } {
  const spool = createSpool({ directory: spoolDirectory, maxBytes: 2 * 1024 ** 3, logger: quiet })
  return { repository: openRepository({ name: 'test', ...options }, { spool, logger: quiet }), spool }
}
