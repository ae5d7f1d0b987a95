/**
 * What identifies a stored file: a key that changes whenever the file in the repository does, and its stored length,
 * checked against what the backup lists. Determined once for each `StoredFile` object.
 */
import { createHash } from 'node:crypto'
import { checksumOf } from '../decode/checksum.ts'
import type { DescriptorCache } from '../decode/descriptor-cache.ts'
import { damaged, type StoredFile } from '../decode/stored-file.ts'

export interface Identity {
  readonly key: string
  /** Stored bytes. */
  readonly length: number
}

/** @throws HowdahError `backup_damaged` when the stored length is not the listed one; errors of system calls as they are */
export type Identify = (file: StoredFile) => Promise<Identity>

export function createIdentify(descriptors: DescriptorCache): Identify {
  const identities = new WeakMap<StoredFile, Promise<Identity>>()

  const identify: Identify = (file) => {
    const known = identities.get(file)
    if (known !== undefined) return known
    const made = readIdentity(file)
    identities.set(file, made)
    made.catch(() => identities.delete(file))
    return made
  }

  async function readIdentity(file: StoredFile): Promise<Identity> {
    const { path, offset, length, wholeFile } = file.region
    // A backup opened now must see the file as it is now, not what a cached descriptor still refers to.
    await descriptors.refresh(path)
    if (file.container !== undefined) {
      const { key } = await identify(file.container)
      return {
        key: hashed([key, offset, length, file.transforms, file.size, checksumOf(file)]),
        length: length ?? 0,
      }
    }
    return descriptors.use(file.region, path, async ({ size, mtimeMs }) => {
      if (wholeFile && length !== undefined && size !== length) {
        throw damaged(file, `it takes ${size} bytes where the backup lists ${length}`)
      }
      const stored = length ?? size - offset
      if (stored < 0 || offset + stored > size) {
        throw damaged(file, `it should end at ${offset + stored} where its file has ${size} bytes`)
      }
      const identity = [path, size, mtimeMs, offset, stored, file.transforms, file.size, checksumOf(file)]
      return { key: hashed(identity), length: stored }
    })
  }

  return identify
}

const hashed = (identity: readonly unknown[]) =>
  createHash('sha256').update(JSON.stringify(identity)).digest('hex')
