/** Writing the spool's own files. */
import { write } from 'node:fs'
import { promisify } from 'node:util'
import { HowdahError } from '../../../messages/errors.ts'

const writeFile = promisify(write)

/** Writes all of `bytes` at `position`, however many calls it takes. */
export async function writeAll(fd: number, bytes: Buffer, position: number): Promise<void> {
  let done = 0
  while (done < bytes.length) {
    const { bytesWritten } = await writeFile(fd, bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

/**
 * Names the spool, not the backup, when the spool's own file system fails.
 * @throws HowdahError `repository_unavailable`
 */
export async function spoolWork<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HowdahError(
      'repository_unavailable',
      `the mount agent cannot write its spool (${path}): ${reason}; make room there or give it another directory`,
      { cause: error },
    )
  }
}
