/**
 * Barman's servers, their backups, and opening one. The format reader of this folder: places.ts finds the servers,
 * server-backups.ts their backups, server-copy.ts the files of one, archive.ts the WAL; reading the bytes is the spool's.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import { oldestFirst } from '../../backup-order.ts'
import type { AllowedRoots } from '../../decode/allowed-roots.ts'
import type { Instance, Repository, RepositoryOptions } from '../../repository.ts'
import type { Spool } from '../../spool/spool.ts'
import type { CopyReader } from '../basebackup/copy.ts'
import { openCopy } from '../basebackup/open-copy.ts'
import { openBackup } from '../open-backup.ts'
import { createTarIndexes } from '../tar/tar-index.ts'
import { unknownBackup, unknownInstance } from '../unknown-name-errors.ts'
import { createWalArchive, createWalFiles, type WalLocator } from '../wal-files.ts'
import { openBarmanWal } from './archive.ts'
import type { BackupInfo } from './backup-info.ts'
import { createServerBackups } from './server-backups.ts'
import { findCopy } from './server-copy.ts'
import type { ServerDirectories } from './server-directories.ts'
import { findServers, rootsOfServer } from './servers.ts'

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

  async function allInfos(): Promise<ReadonlyMap<string, BackupInfo>> {
    const ids = await backups.ids()
    return new Map(await Promise.all(ids.map(async (id) => [id, await backups.info(id)] as const)))
  }

  return {
    name: server,
    async backups() {
      const infos = await allInfos()
      return oldestFirst([...infos.values()].map(({ summary }) => withChain(summary, infos)))
    },
    async open(label) {
      const infos = await allInfos()
      if (!infos.has(label)) throw unknownBackup(server, label, [...infos.keys()])
      const info = await backups.usable(label)
      const summary = withChain(info.summary, infos)
      if (summary.unusable !== undefined) {
        throw new HowdahError('backup_unsupported', `backup ${label} of ${server}: ${summary.unusable}`)
      }
      const copyOf = (one: BackupInfo) => findCopy(one, places.backups, roots, server, verify)
      const earlier = ancestorsOf(summary, infos).map((one) => () => copyOf(one))
      const { tree, storedFile } = await openCopy(await copyOf(info), earlier, reader)
      const files = createWalFiles(wal, reader.spool, server)
      return openBackup({ summary, tree, storedFile, wal: files }, reader.spool)
    },
    wal: async () => createWalArchive(places.wals, wal, reader.spool),
    databases: async () => undefined,
  }
}

/** The backups on which an incremental one builds, newest first, as far as they are there; a circle ends. */
function ancestorsOf({ parent }: BackupSummary, infos: ReadonlyMap<string, BackupInfo>): BackupInfo[] {
  const found: BackupInfo[] = []
  for (let next = infos.get(parent ?? ''); next !== undefined && !found.includes(next); ) {
    found.push(next)
    next = infos.get(next.summary.parent ?? '')
  }
  return found
}

/** The summary, as unusable where a backup on which it builds is, or is not there. */
function withChain(summary: BackupSummary, infos: ReadonlyMap<string, BackupInfo>): BackupSummary {
  if (summary.unusable !== undefined) return summary
  const chain = ancestorsOf(summary, infos).map((one) => one.summary)
  const broken = chain.find(({ unusable }) => unusable !== undefined)
  const last = chain.at(-1) ?? summary
  const end = infos.has(last.parent ?? '') ? 'which builds on it in turn' : 'which is not there'
  const reason =
    broken !== undefined
      ? `${broken.label}, which cannot be used: ${broken.unusable}`
      : last.parent !== undefined && `${last.parent}, ${end}`
  return reason === false ? summary : { ...summary, unusable: `it builds on backup ${reason}` }
}
