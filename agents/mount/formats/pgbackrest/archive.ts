/**
 * The WAL archive of a stanza: `<version>-<id>/<first 16 digits>/<segment>-<sha1>[.ext]`, with timeline history files
 * beside the directories and `.backup` files in them (src/command/archive/common.c).
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Passphrase } from '../../decode/aes-cbc.ts'
import { type Compression, isSystemError, type StoredFile, type Transform } from '../../decode/stored-file.ts'
import { type WalLocator, walListing } from '../wal-files.ts'
import type { Access } from './access.ts'
import { readInfoFile } from './info-file.ts'
import { digits, MalformedInfo, parseObject, passphraseOf, readInfo } from './ini.ts'

const ENTRY = /^([0-9A-F]{24})(\.partial)?-([0-9a-f]{40})(?:\.(gz|zst|lz4|bz2))?$/
/** A listing is trusted for as long as its directory's mtime stays, unless that was so young that it can hide a change. */
const SETTLED_MS = 2000

export interface Cluster {
  readonly systemIdentifier: string | undefined
  readonly postgresVersion: string
}

interface Listing {
  readonly mtimeMs: number
  readonly readAt: number
  /** Full segments and, under `<segment>.partial`, partial ones: all that there are of each. */
  readonly segments: ReadonlyMap<string, readonly StoredFile[]>
}

/** @throws HowdahError `backup_damaged` when archive.info is, or knows no archive of that cluster; as `readInfoFile` */
export async function openArchive(access: Access, stanza: string, cluster: Cluster): Promise<WalLocator> {
  const { root } = access
  const stanzaDirectory = join(root, 'archive', stanza)
  const infoPath = join(stanzaDirectory, 'archive.info')
  const { ids, passphrase } = await readInfoFile(access, infoPath, (bytes) => archiveInfo(bytes, cluster))
  const id = ids.at(-1)
  if (id === undefined) {
    throw new HowdahError(
      'backup_damaged',
      `${infoPath} knows no WAL archive of PostgreSQL ${cluster.postgresVersion} with system identifier ${cluster.systemIdentifier}`,
    )
  }
  const directory = join(stanzaDirectory, id)
  const listings = new Map<string, Listing>()
  const loose = new Map<string, StoredFile>()

  async function list(name: string): Promise<Listing['segments']> {
    const path = join(directory, name)
    const { mtimeMs } = await stat(path)
    const known = listings.get(name)
    if (known !== undefined && known.mtimeMs === mtimeMs && known.readAt - mtimeMs > SETTLED_MS) {
      return known.segments
    }
    const readAt = Date.now()
    const segments = new Map<string, StoredFile[]>()
    for (const entry of await readdir(path)) {
      const [, segment, partial, sha1, extension] = ENTRY.exec(entry) ?? []
      if (segment === undefined || sha1 === undefined) continue
      const key = segment + (partial ?? '')
      // One object per file, so that what is known of it is not asked again.
      const before = known?.segments.get(key)?.find((file) => file.region.path === join(path, entry))
      const file = before ?? walFile(join(path, entry), key, sha1, extension as Compression)
      segments.set(key, [...(segments.get(key) ?? []), file])
    }
    listings.set(name, { mtimeMs, readAt, segments })
    return segments
  }

  async function segment(name: string): Promise<StoredFile | undefined> {
    const segments = await list(name.slice(0, 16))
    const found = segments.get(name) ?? segments.get(`${name}.partial`) ?? []
    const checksums = new Set(found.map((file) => file.sha1))
    if (checksums.size > 1) {
      throw new HowdahError(
        'backup_damaged',
        `the WAL archive of ${stanza} has ${name} with different contents: ${found.map((file) => file.region.path).join(', ')}`,
      )
    }
    return found[0]
  }

  async function looseFile(path: string, name: string): Promise<StoredFile | undefined> {
    const known = loose.get(path)
    if (known !== undefined) return known
    await stat(path)
    const file = walFile(path, name, undefined, undefined)
    loose.set(path, file)
    return file
  }

  function walFile(
    path: string,
    name: string,
    sha1: string | undefined,
    compression: Compression | undefined,
  ): StoredFile {
    return {
      region: { root, path, offset: 0, length: undefined, wholeFile: true },
      transforms: transforms(passphrase, compression),
      size: undefined,
      ...(sha1 === undefined ? {} : { sha1 }),
      description: `WAL file ${name} of ${stanza}`,
    }
  }

  /** Undefined when it is not there. */
  async function ifThere<T>(work: () => Promise<T>): Promise<T | undefined> {
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
      ifThere(async () => {
        if (name.endsWith('.history')) return looseFile(join(directory, name), name)
        if (name.endsWith('.backup')) return looseFile(join(directory, name.slice(0, 16), name), name)
        return segment(name)
      }),
    async list() {
      const entries = (await ifThere(() => readdir(directory))) ?? []
      const names = entries.filter((name) => name.endsWith('.history'))
      for (const name of entries.filter((entry) => /^[0-9A-F]{16}$/.test(entry))) {
        const segments = await ifThere(() => list(name))
        for (const segment of segments?.keys() ?? []) names.push(segment)
      }
      return walListing(names)
    },
  }
}

function transforms(passphrase: Passphrase | undefined, compression: Compression | undefined): Transform[] {
  return [
    ...(passphrase === undefined ? [] : [{ kind: 'decrypt', passphrase, raw: false } as const]),
    ...(compression === undefined ? [] : [{ kind: 'decompress', compression } as const]),
  ]
}

interface ArchiveInfo {
  /** The archive directories of a cluster, oldest first. */
  readonly ids: readonly string[]
  /** Of the WAL; undefined where it is not encrypted. */
  readonly passphrase: Passphrase | undefined
}

/** @throws MalformedInfo */
function archiveInfo(bytes: Buffer, cluster: Cluster): ArchiveInfo {
  let passphrase: Passphrase | undefined
  const found: { id: number; version: string }[] = []
  readInfo(bytes, (section, key, value) => {
    if (section === 'cipher') passphrase = passphraseOf(key, value) ?? passphrase
    if (section !== 'db:history') return
    const version = parseObject(key, value)['db-version']
    if (typeof version !== 'string' || !/^[0-9.]{1,8}$/.test(version) || !/^\d{1,9}$/.test(key)) {
      throw new MalformedInfo(`history entry ${key} is not valid`)
    }
    const same = cluster.systemIdentifier === undefined || digits(value, 'db-id') === cluster.systemIdentifier
    if (same && version === cluster.postgresVersion) found.push({ id: Number(key), version })
  })
  const ids = found.sort((a, b) => a.id - b.id).map(({ id, version }) => `${version}-${id}`)
  return { ids, passphrase }
}
