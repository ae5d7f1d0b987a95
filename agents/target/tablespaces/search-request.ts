/**
 * Where the file system is not isolated, refuses a recovery that would create a tablespace outside of the session:
 * PostgreSQL would write to production's directory.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { z } from 'zod'
import { programBeside } from '../../../config/program-beside.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { formatLsn } from '../../wal/lsn.ts'
import { type InstanceSpec, instancePaths } from '../postgres/specification.ts'
import type { SearchedTarget } from './search-archive.ts'

export interface SearchRequest {
  readonly wal: string
  readonly first: string
  readonly last: string | undefined
  readonly target: SearchedTarget
}

const Found = z
  .object({ location: z.string(), lsn: z.string(), commitBefore: z.number().optional() })
  .nullable()
const run = promisify(execFile)
/** As long as recovery itself may take to read the same WAL, ms. */
const DEADLINE_MS = 12 * 60 * 60 * 1000

/** @throws HowdahError `target_unreachable` with the last point that can be reached; the signal's reason */
export async function requireNoLaterTablespace(spec: InstanceSpec, signal?: AbortSignal): Promise<void> {
  const first = spec.neededWal?.first
  if (first === undefined) return
  const request: SearchRequest = {
    wal: instancePaths(spec).wal,
    first,
    last: spec.neededWal?.last,
    target: searched(spec),
  }
  const program = programBeside(import.meta.url, 'main')
  const { stdout } = await run(process.execPath, [program, JSON.stringify(request)], {
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
    ...(signal && { signal }),
  }).catch((error: unknown) => {
    signal?.throwIfAborted()
    throw new HowdahError(
      'repository_unavailable',
      `The WAL of ${spec.session} could not be searched for tablespaces.`,
      {
        cause: error,
      },
    )
  })
  const found = Found.parse(JSON.parse(stdout))
  if (found === null) return
  const at = formatLsn(BigInt(found.lsn))
  const commit =
    found.commitBefore === undefined
      ? ''
      : ` The last commit before it is of ${new Date(found.commitBefore / 1000).toISOString()}.`
  throw new HowdahError(
    'target_unreachable',
    `The WAL creates a tablespace at ${found.location} (LSN ${at}), outside of the session, and the target agent, which does not run as root, cannot keep PostgreSQL out of that directory.${commit} What can be reached is "--recover-to lsn=${at} --exclusive", or all of it with a target agent that runs as root.`,
    { field: 'recoverTo' },
  )
}

function searched({ recoverTo: { type, value, timeline } }: InstanceSpec): SearchedTarget {
  return {
    type,
    value:
      type === 'time' && value !== undefined
        ? String(Date.parse(value.replace(/^(\S+) /, '$1T')) * 1000)
        : value,
    timeline: timeline ?? (type === 'immediate' ? 'current' : 'latest'),
  }
}
