/** Verifies parts of large files: once the parts that were read make up a file, its checksum is compared. */
import { checksumOf } from '../decode/checksum.ts'
import { damaged, type StoredFile } from '../decode/stored-file.ts'
import { type CheckedFile, createWholeChecks } from './whole-checks.ts'

/** Returns `part`. @throws HowdahError `backup_damaged` when the file is complete with it and its checksum differs */
export type CheckPart = (file: StoredFile, offset: number, part: Buffer) => Buffer

/** @param smallBytes files up to this size are verified as a whole before their first read, and not here */
export function createPartChecks(smallBytes: number): CheckPart {
  const wholeChecks = createWholeChecks()
  const checkedFiles = new WeakMap<StoredFile, CheckedFile>()
  return (file, offset, part) => {
    const { size } = file
    if (size === undefined || size <= smallBytes) return part
    let checked = checkedFiles.get(file)
    if (checked === undefined) {
      const checksum = checksumOf(file)
      if (checksum === undefined) return part
      checked = { size, checksum }
      checkedFiles.set(file, checked)
    }
    if (wholeChecks.take(checked, offset, part)) return part
    throw damaged(file, 'its contents do not match their checksum')
  }
}
