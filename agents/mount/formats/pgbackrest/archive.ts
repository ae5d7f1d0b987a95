/**
 * The WAL archive of a stanza: `<version>-<id>/<first 16 digits>/<segment>-<sha1>[.ext]`, with timeline history files
 * beside the directories and `.backup` files in them (src/command/archive/common.c).
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Passphrase } from '../../decode/aes-cbc.ts'
import type { AllowedRoots } from '../../decode/allowed-roots.ts'
import { type Compression, isSystemError, type StoredFile, type Transform } from '../../decode/stored-file.ts'
import { joinListings, walListing } from '../../wal-listing.ts'
import { mapConcurrently } from '../map-concurrently.ts'
import type { WalLocator } from '../wal-files.ts'
import type { Access } from './access.ts'
import { archiveInfo, type Cluster } from './archive-info.ts'
import { readInfoFile } from './info-file.ts'
import { createSegmentDirectories, ENTRY } from './segment-directories.ts'
import { setBounded } from './set-bounded.ts'

/** Stored files of segments that are kept, so that what is known of them is not determined again. */
const FILES_KEPT = 4096

/**
 * The WAL archive of a cluster. One that was upgraded and rolled back again has several directories, any of which may
 * hold a segment; pgBackRest's archive-get searches them too (src/command/archive/get/get.c).
 * @throws HowdahError `backup_damaged` when archive.info is damaged or lists no archive of that cluster; as
 *   `readInfoFile`
 */
export async function openArchive(access: Access, stanza: string, cluster: Cluster): Promise<WalLocator> {
  const stanzaDirectory = join(access.root, 'archive', stanza)
  const infoPath = join(stanzaDirectory, 'archive.info')
  const { ids, passphrase } = await readInfoFile(access, infoPath, (bytes) => archiveInfo(bytes, cluster))
  if (ids.length === 0) {
    throw new HowdahError(
      'backup_damaged',
      `${infoPath} lists no WAL archive of PostgreSQL ${cluster.postgresVersion} with system identifier ${cluster.systemIdentifier}`,
    )
  }
  const newestFirst = ids
    .toReversed()
    .map((id) => openDirectory(access, join(stanzaDirectory, id), stanza, passphrase))
  return {
    async locate(name) {
      for (const directory of newestFirst) {
        const found = await directory.locate(name)
        if (found !== undefined) return found
      }
      // Recovery treats a missing segment as the end of the archive, so that the archive itself must exist.
      await readableInfo(infoPath, stanza)
      return undefined
    },
    list: async () => joinListings(await Promise.all(newestFirst.map((directory) => directory.list()))),
  }
}

/** @throws HowdahError `repository_unavailable` when neither archive.info nor its copy exists any more */
async function readableInfo(infoPath: string, stanza: string): Promise<void> {
  try {
    await stat(infoPath).catch(() => stat(`${infoPath}.copy`))
  } catch (error) {
    throw new HowdahError(
      'repository_unavailable',
      `the WAL archive of ${stanza} is not there any more: ${isSystemError(error) ? error.code : error} on ${infoPath}`,
      { cause: error },
    )
  }
}

/** One directory of the archive: `<version>-<id>`. */
function openDirectory(
  { root, linkTargets }: AllowedRoots,
  directory: string,
  stanza: string,
  passphrase: Passphrase | undefined,
): WalLocator {
  const segments = createSegmentDirectories(directory)
  const files = new Map<string, StoredFile>()
  const loose = new Map<string, StoredFile>()

  async function segment(name: string): Promise<StoredFile | undefined> {
    const prefix = name.slice(0, 16)
    const entries = await segments.entries(prefix)
    const key = entries.has(name) ? name : `${name}.partial`
    const found = (entries.get(key) ?? []).map((entry) =>
      segmentFile(join(directory, prefix, entry), key, entry),
    )
    const checksums = new Set(found.map((file) => file.sha1))
    if (checksums.size > 1) {
      throw new HowdahError(
        'backup_damaged',
        `the WAL archive of ${stanza} has ${name} with different contents: ${found.map((file) => file.region.path).join(', ')}`,
      )
    }
    return found[0]
  }

  /** The same object for the same file, so that what is known of it is not determined again. */
  function segmentFile(path: string, key: string, entry: string): StoredFile {
    const [, , , sha1, extension] = ENTRY.exec(entry) ?? []
    const file = files.get(path) ?? walFile(path, key, sha1, extension as Compression)
    setBounded(files, path, file, FILES_KEPT)
    return file
  }

  /** A file that is stored under its own name, not compressed: history and `.backup` files. */
  async function looseFile(path: string, name: string): Promise<StoredFile | undefined> {
    const known = loose.get(path)
    if (known !== undefined) return known
    await stat(path)
    const file = walFile(path, name, undefined, undefined)
    loose.set(path, file)
    return file
  }

  const walFile = (
    path: string,
    name: string,
    sha1: string | undefined,
    compression: Compression | undefined,
  ): StoredFile => ({
    region: { root, linkTargets, path, offset: 0, length: undefined, wholeFile: true },
    transforms: transforms(passphrase, compression),
    size: undefined,
    ...(sha1 === undefined ? {} : { sha1 }),
    description: `WAL file ${name} of ${stanza}`,
  })

  /** Undefined when it does not exist. */
  async function ifExists<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work()
    } catch (error) {
      if (!isSystemError(error)) throw error
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
      throw new HowdahError(
        'repository_unavailable',
        `the WAL archive of ${stanza} cannot be read: ${error.code} in ${directory}`,
        { cause: error },
      )
    }
  }

  return {
    locate: (name) =>
      ifExists(async () => {
        if (name.endsWith('.history')) return looseFile(join(directory, name), name)
        if (name.endsWith('.backup')) return looseFile(join(directory, name.slice(0, 16), name), name)
        return segment(name)
      }),
    async list() {
      const entries = await ifExists(() => readdir(directory))
      if (entries === undefined)
        return walListing([], directory, [`${directory}, a WAL archive of ${stanza}, is not there`])
      const names = entries.filter((name) => /^[0-9A-F]{16}$/.test(name))
      const found = await mapConcurrently(names, async (name) => ifExists(() => segments.list(name)))
      segments.retain(names)
      const histories = walListing(
        entries.filter((name) => name.endsWith('.history')),
        directory,
      )
      return joinListings([histories, ...found.filter((one) => one !== undefined)])
    },
  }
}

function transforms(passphrase: Passphrase | undefined, compression: Compression | undefined): Transform[] {
  return [
    ...(passphrase === undefined ? [] : [{ kind: 'decrypt', passphrase, raw: false } as const]),
    ...(compression === undefined ? [] : [{ kind: 'decompress', compression } as const]),
  ]
}
