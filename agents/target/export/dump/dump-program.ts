/**
 * Whether an export has a pg_dump that can dump its instance: pg_dump refuses servers of a newer major version. An
 * installation of the server alone has none of its own, and that of another version may be found instead.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { HowdahError } from '../../../../messages/errors.ts'
import { runAs } from '../../postgres/process/user-process.ts'
import { type InstanceSpec, majorVersion } from '../../postgres/specification.ts'
import { majorOf } from '../../preflight/binaries.ts'

const run = promisify(execFile)
const DEADLINE = 10_000

/** Where the programs of an export are looked for: the instance's own come first. */
export const programPath = (binaries: string): string => `${binaries}:/usr/local/bin:/usr/bin:/bin`

/** @throws HowdahError `postgres_missing`, which names the program and what was found instead */
export async function requireDumpProgram({
  binaries,
  version,
  user,
}: Pick<InstanceSpec, 'binaries' | 'version' | 'user'>): Promise<void> {
  const said = await dumpVersion(binaries, user)
  const found = said === undefined ? undefined : majorOf(said)
  if (found !== undefined && Number(found) >= majorVersion(version)) return
  const instead =
    said === undefined ? 'there is none on the target' : `what is found on the target is ${said}`
  throw new HowdahError(
    'postgres_missing',
    `An export of PostgreSQL ${version} takes pg_dump of that version or a newer one, but ${binaries} has none, and ${instead}. Install the client programs of PostgreSQL ${version}; the published instance is not affected.`,
  )
}

/** What pg_dump says of itself; undefined: there is none. */
async function dumpVersion(binaries: string, user: InstanceSpec['user']): Promise<string | undefined> {
  const env = { PATH: programPath(binaries), LC_ALL: 'C', HOME: '/nonexistent' }
  const options = { ...runAs(user), cwd: '/', env, timeout: DEADLINE }
  return run('/bin/sh', ['-c', 'exec pg_dump --version'], options).then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  )
}
