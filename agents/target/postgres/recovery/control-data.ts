/** Reads pg_control of an instance's data directory, even while a server writes it. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { withDeadline } from '../process/deadline.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import { type ControlData, parseControlFile } from './control-file.ts'

/** More than the used part of the file in any version (PG_CONTROL_MAX_SAFE_SIZE is 512). */
const READ_BYTES = 1024
const DEADLINE = 30_000
/** PostgreSQL writes the file in place, so a concurrent read may be torn. */
const ATTEMPTS = 5
const PAUSE = 20

/**
 * @throws HowdahError `backup_damaged` when pg_control cannot be read; `backup_unsupported` when a newer PostgreSQL wrote it;
 *   `timeout` when the mount does not answer in 30 s
 */
export async function readControlData(
  spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>,
): Promise<ControlData> {
  const path = `${instancePaths(spec).data}/global/pg_control`
  return withDeadline(
    readWithRetries(path),
    DEADLINE,
    `${path} could not be read within ${DEADLINE / 1000} s. See whether the mount server can be reached, and retry.`,
  )
}

async function readWithRetries(path: string): Promise<ControlData> {
  for (let attempt = 1; ; attempt++) {
    try {
      return parseControlFile(await readStart(path))
    } catch (cause) {
      if (cause instanceof HowdahError) throw cause
      const { code, message } = cause as NodeJS.ErrnoException
      if (code === undefined && attempt < ATTEMPTS) await delay(PAUSE)
      else
        throw new HowdahError('backup_damaged', `pg_control of the backup cannot be used: ${message}.`, {
          cause,
        })
    }
  }
}

async function readStart(path: string): Promise<Buffer> {
  // A backup may have a symbolic link or a FIFO in its place.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const file = await open(path, flags)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}
