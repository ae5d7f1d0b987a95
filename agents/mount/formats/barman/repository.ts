/**
 * Barman's servers, their backups, and opening one. The format reader of this folder: places.ts finds the servers,
 * server-backups.ts their backups, server-copy.ts the files of one, archive.ts the WAL; reading the bytes is the spool's.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import { oldestFirst } from '../../backup-order.ts'
import type { AllowedRoots } from '../../decode/allowed-roots.ts'
import type { Instance, Repository, RepositoryOptions } from '../../repository.ts'
import type { Spool } from '../../spool/spool.ts'
import type { Copy, CopyReader } from '../basebackup/copy.ts'
import { openCopy } from '../basebackup/open-copy.ts'
import { openBackup } from '../open-backup.ts'
import { createTarIndexes } from '../tar/tar-index.ts'
import { unknownBackup, unknownInstance } from '../unknown-name-errors.ts'
import { createWalArchive, createWalFiles, type WalLocator } from '../wal-files.ts'
import { openBarmanWal } from './archive.ts'
import { createServerBackups } from './server-backups.ts'
import { findCopy } from './server-copy.ts'
import type { ServerDirectories } from './server-directories.ts'
import { findServers, rootsOfServer } from './servers.ts'

/** Incremental backups that build on each other; a longer chain is circular. */
const MAX_CHAIN = 1000

export function openBarman(options: RepositoryOptions, spool: Spool): Repository {
  const reader = { spool, indexes: createTarIndexes(spool) }
  /** By server: keeps listings, which are read again only where they changed. */
  const archives = new Map<string, WalLocator>()

  return {
    instances: async () => [...(await findServers(options)).keys()],
    async instance(name) {
      const servers = await findServers(options)
      const places = servers.get(name)
      if (places === undefined) throw unknownInstance(options.name, name, [...servers.keys()])
      const roots = rootsOfServer(places, options)
      const key = JSON.stringify([name, places])
      const wal = archives.get(key) ?? openBarmanWal(places, roots, name)
      archives.set(key, wal)
      return openServer(places, roots, name, wal, reader, options.verifyChecksums !== false)
    },
  }
}

function openServer(
  places: ServerDirectories,
  roots: AllowedRoots,
  server: string,
  wal: WalLocator,
  reader: CopyReader,
  verify: boolean,
): Instance {
  const backups = createServerBackups(places, roots, server, wal)

  return {
    name: server,
    async backups() {
      const ids = await backups.ids()
      return oldestFirst(await Promise.all(ids.map(async (id) => (await backups.info(id)).summary)))
    },
    async open(label) {
      const there = await backups.ids()
      if (!there.includes(label)) throw unknownBackup(server, label, there)
      const info = await backups.usable(label)
      const copyOf = (one: typeof info) => findCopy(one, places.backups, roots, server, verify)
      const copies: [Copy, ...Copy[]] = [await copyOf(info)]
      for (let parent = info.summary.parent; parent !== undefined; ) {
        if (!there.includes(parent) || copies.length > MAX_CHAIN) {
          throw new HowdahError(
            'backup_damaged',
            `backup ${label} of ${server} builds on ${parent}, which is not there`,
          )
        }
        const next = await backups.usable(parent)
        copies.push(await copyOf(next))
        parent = next.summary.parent
      }
      const { tree, storedFile } = await openCopy(copies, reader)
      const files = createWalFiles(wal, reader.spool, server)
      return openBackup({ summary: info.summary, tree, storedFile, wal: files }, reader.spool)
    },
    wal: async () => createWalArchive(places.wals, wal, reader.spool),
    databases: async () => undefined,
  }
}
