/** Barman's servers, their backups, and opening one. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import { segmentAfter } from '../../../wal/lsn.ts'
import { inOrder } from '../../backup-order.ts'
import { resolveIfThere, type Within } from '../../decode/within.ts'
import type { Instance, Repository, RepositoryOptions } from '../../repository.ts'
import type { Spool } from '../../spool/spool.ts'
import { hasSegment } from '../../wal-listing.ts'
import { readIfThere } from '../basebackup/backup-files.ts'
import { readBackupManifest } from '../basebackup/backup-manifest.ts'
import { archivesIn, type Copy, type CopyReader } from '../basebackup/copy.ts'
import type { TablespacePlace } from '../basebackup/copy-places.ts'
import { openCopy } from '../basebackup/open-copy.ts'
import { openBackup } from '../open-backup.ts'
import { createTarIndexes } from '../tar/tar-index.ts'
import { unknownBackup, unknownInstance } from '../unknown.ts'
import { createWalArchive, createWalFiles, type WalLocator } from '../wal-files.ts'
import { openBarmanWal } from './archive.ts'
import { type BackupInfo, INFO_BYTES, parseBackupInfo } from './backup-info.ts'
import { directoriesIn, findServers, withinServer } from './places.ts'
import type { ServerPlaces } from './server-places.ts'

const ID = /^\d{8}T\d{6}$/
/** A backup that needs more segments than this took weeks. */
const MAX_SEGMENTS = 1_000_000
/** Incremental backups that build on each other; a longer chain goes in circles. */
const MAX_CHAIN = 1000

export function openBarman(options: RepositoryOptions, spool: Spool): Repository {
  const reader = { spool, indexes: createTarIndexes(spool) }
  /** By server: what was listed once is only listed again where it changed. */
  const archives = new Map<string, WalLocator>()

  return {
    instances: async () => [...(await findServers(options)).keys()],
    async instance(name) {
      const servers = await findServers(options)
      const places = servers.get(name)
      if (places === undefined) throw unknownInstance(options.name, name, [...servers.keys()])
      const within = withinServer(places, options)
      const key = JSON.stringify([name, places])
      const wal = archives.get(key) ?? openBarmanWal(places, within, name)
      archives.set(key, wal)
      return openServer(places, within, name, wal, reader, options.verifyChecksums !== false)
    },
  }
}

function openServer(
  { backups: base, meta, wals }: ServerPlaces,
  within: Within,
  server: string,
  wal: WalLocator,
  reader: CopyReader,
  verify: boolean,
): Instance {
  /** Barman 3.13.2 moved backup.info to the meta directory; what is there counts. */
  async function ids(): Promise<string[]> {
    const there = await resolveIfThere(within, base)
    const old = await directoriesIn(there ?? base, `server ${server} cannot be read`)
    const moved = (await listed((await resolveIfThere(within, meta)) ?? meta)).flatMap(
      (name) => /^(\d{8}T\d{6})-backup\.info$/.exec(name)?.[1] ?? [],
    )
    return [...new Set([...old.filter((name) => ID.test(name)), ...moved])].sort()
  }

  /** Never throws for what is wrong with the backup itself: that is its summary's `unusable`. */
  async function infoOf(id: string): Promise<BackupInfo> {
    const places = [join(meta, `${id}-backup.info`), join(base, id, 'backup.info')]
    try {
      await resolveIfThere(within, join(base, id))
      for (const path of places) {
        const bytes = await readIfThere(path, INFO_BYTES)
        if (bytes === undefined) continue
        const info = parseBackupInfo(bytes.toString('utf8'), id, path)
        return { ...info, summary: await withWal(info) }
      }
    } catch (error) {
      if (!(error instanceof HowdahError) || error.retryable) throw error
      return unusable(id, error.message)
    }
    return unusable(id, 'it has no backup.info: it was interrupted, or deleted in part')
  }

  /** Barman calls a backup done once its WAL is there; some time before that, it is. */
  async function withWal({ summary, status, segmentBytes }: BackupInfo): Promise<BackupSummary> {
    if (status !== 'WAITING_FOR_WALS' || summary.unusable !== undefined) return summary
    const { startWal, stopWal } = summary
    if (startWal === undefined || stopWal === undefined) return summary
    const there = await wal.list()
    let segment: string | undefined = startWal
    for (let count = 0; count < MAX_SEGMENTS && segment !== undefined; count += 1) {
      if (!hasSegment(there, segment)) {
        return { ...summary, unusable: `it waits for WAL: ${segment} has not arrived in the archive` }
      }
      if (segment >= stopWal) return summary
      segment = segmentAfter(segment, segmentBytes)
    }
    return { ...summary, unusable: `its WAL from ${startWal} to ${stopWal} cannot be` }
  }

  async function usable(id: string): Promise<BackupInfo> {
    const info = await infoOf(id)
    const { unusable: reason } = info.summary
    if (reason === undefined) return info
    throw new HowdahError('backup_unsupported', `backup ${id} of ${server}: ${reason}`)
  }

  async function copyOf({ summary: { label }, mode, tablespaces }: BackupInfo): Promise<Copy> {
    const directory = join(base, label)
    const data = join(directory, 'data')
    const names = await listed((await resolveIfThere(within, data)) ?? data)
    if (names.includes('PG_VERSION')) {
      return {
        within,
        label,
        data: { kind: 'directory', path: data },
        tablespaces: tablespaces.map(
          ({ oid, target }): TablespacePlace => ({
            oid,
            target,
            place: { kind: 'directory', path: join(directory, oid) },
          }),
        ),
        // One that Barman generated later describes what it found, not what PostgreSQL copied.
        manifest: mode === 'postgres' ? await readBackupManifest(data) : undefined,
        verify,
      }
    }
    const archives = await archivesIn(within, data, label).catch((error: unknown) => {
      if (error instanceof HowdahError) throw error
      throw new HowdahError('backup_damaged', `backup ${label} of ${server} has no ${data}`, { cause: error })
    })
    const archive = (name: string) => {
      const file = archives.get(name)
      if (file !== undefined) return { kind: 'archive', file } as const
      throw new HowdahError('backup_damaged', `backup ${label} of ${server} lacks ${name}.tar in ${data}`)
    }
    return {
      within,
      label,
      data: archive('base'),
      tablespaces: tablespaces.map(({ oid, target }) => ({ oid, target, place: archive(oid) })),
      manifest: await readBackupManifest(data),
      verify,
    }
  }

  return {
    name: server,
    backups: async () =>
      inOrder(await Promise.all((await ids()).map(async (id) => (await infoOf(id)).summary))),
    async open(label) {
      const there = await ids()
      if (!there.includes(label)) throw unknownBackup(server, label, there)
      const info = await usable(label)
      const copies: [Copy, ...Copy[]] = [await copyOf(info)]
      for (let parent = info.summary.parent; parent !== undefined; ) {
        if (!there.includes(parent) || copies.length > MAX_CHAIN) {
          throw new HowdahError(
            'backup_damaged',
            `backup ${label} of ${server} builds on ${parent}, which is not there`,
          )
        }
        const next = await usable(parent)
        copies.push(await copyOf(next))
        parent = next.summary.parent
      }
      const { tree, storedFile } = await openCopy(copies, reader)
      const files = createWalFiles(wal, reader.spool, server)
      return openBackup({ summary: info.summary, tree, storedFile, wal: files }, reader.spool)
    },
    wal: async () => createWalArchive(wals, wal, reader.spool),
    databases: async () => undefined,
  }
}

const unusable = (label: string, reason: string): BackupInfo => ({
  summary: { label, type: 'full', postgresVersion: 'unknown', unusable: reason },
  status: 'EMPTY',
  mode: '',
  tablespaces: [],
  segmentBytes: 0,
})

/** Nothing when it is not there. */
const listed = (directory: string): Promise<string[]> => readdir(directory).catch(() => [])
