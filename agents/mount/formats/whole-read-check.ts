/**
 * Verifies the checksum of a file that is too large to be checked before its first read, when somebody has read it
 * from its start to its end, in order: the reads are hashed as they pass. Reads in any other order are not.
 */
import { type RunningChecksum, startChecksum } from '../decode/checksum.ts'
import { damaged, type StoredFile } from '../decode/stored-file.ts'

export interface WholeReadCheck {
  /** Told of every read that succeeded. @throws HowdahError `backup_damaged` with the read that ends a file which does not match */
  passed(file: StoredFile, offset: number, data: Buffer): void
}

interface Progress {
  position: number
  readonly running: RunningChecksum
}

export function createWholeReadCheck(): WholeReadCheck {
  const reading = new WeakMap<StoredFile, Progress>()
  /** Checked once is enough: later reads are of the same bytes. */
  const done = new WeakSet<StoredFile>()
  return {
    passed(file, offset, data) {
      const { checksum, size } = file
      if (checksum === undefined || size === undefined || done.has(file)) return
      let progress = reading.get(file)
      if (offset === 0) {
        progress = { position: 0, running: startChecksum(checksum) }
        reading.set(file, progress)
      }
      if (progress === undefined || progress.position !== offset) return
      progress.running.update(data)
      progress.position += data.length
      if (progress.position < size) return
      reading.delete(file)
      if (!progress.running.matches()) throw damaged(file, 'its contents do not match their checksum')
      done.add(file)
    },
  }
}
