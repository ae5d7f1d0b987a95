/**
 * A pgBackRest repository: its stanzas, their backups, and opening one. The format reader of this folder: access.ts finds
 * the repository and its passphrase, stanza-files.ts reads what a stanza lists, stored-files.ts says where the bytes of a
 * file are, archive.ts where WAL is; reading the bytes is the spool's.
 */
import type { Dirent } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import { oldestFirst } from '../../backup-order.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import { archiveWithOwnWal, backupWithOwnWal, findCopiedWal, findOwnWal, type OwnWal } from '../../own-wal.ts'
import type { Instance, OpenBackup, Repository, RepositoryOptions, WalArchive } from '../../repository.ts'
import type { Spool } from '../../spool/spool.ts'
import { hasSegment } from '../../wal-listing.ts'
import { mapConcurrently } from '../map-concurrently.ts'
import { openBackup } from '../open-backup.ts'
import { isSafePath } from '../safe-path.ts'
import { unknownBackup, unknownInstance } from '../unknown-name-errors.ts'
import { createWalArchive, createWalFiles } from '../wal-files.ts'
import { type Access, createAccess } from './access.ts'
import { openArchive } from './archive.ts'
import { type BlockFiles, createBlockFiles } from './block-file.ts'
import { createManifestCache, type ManifestCache } from './manifest-cache.ts'
import { databaseNames } from './manifest-head.ts'
import { type KnownInfos, openStanzaFiles } from './stanza-files.ts'
import { storedFiles } from './stored-files.ts'

export function openPgbackrest(options: RepositoryOptions, spool: Spool): Repository {
  const findAccess = createAccess(options)
  const shared: Shared = {
    spool,
    manifests: createManifestCache(),
    archives: new Map(),
    infos: new Map(),
    ownWal: new Map(),
    blockFiles: createBlockFiles(spool),
    verifyChecksums: options.verifyChecksums !== false,
  }

  async function instancesIn(root: string): Promise<string[]> {
    const backupDirectory = join(root, 'backup')
    try {
      const entries = await readdir(backupDirectory, { withFileTypes: true })
      return entries.flatMap((entry) => (isDirectoryOrLink(entry) ? [entry.name] : [])).sort()
    } catch (error) {
      const reason = isSystemError(error) ? error.code : String(error)
      throw new HowdahError(
        'repository_unavailable',
        `${root} cannot be read as a pgBackRest repository (${reason} on ${backupDirectory}); check the path, and that the mount agent may read it`,
        { cause: error },
      )
    }
  }

  return {
    instances: async () => instancesIn((await findAccess()).root),
    async instance(name) {
      const opened = await findAccess()
      const names = await instancesIn(opened.root)
      if (!names.includes(name) || !isSafePath(name)) throw unknownInstance(options.name, name, names)
      return openStanza(opened, name, shared)
    },
  }
}

interface Shared {
  readonly spool: Spool
  readonly manifests: ManifestCache
  /** By stanza and cluster: keeps listings, which are read again only where they changed. */
  readonly archives: Map<string, Promise<WalArchive>>
  readonly infos: KnownInfos
  /** By path of the manifest. */
  readonly ownWal: Map<string, { readonly identity: string; readonly wal: OwnWal }>
  readonly blockFiles: BlockFiles
  readonly verifyChecksums: boolean
}

function openStanza(repository: Access, stanza: string, shared: Shared): Instance {
  const { root, linkTargets } = repository
  const { spool, manifests, archives, infos, ownWal, blockFiles, verifyChecksums } = shared
  const files = openStanzaFiles(repository, stanza, manifests, infos)

  /** @throws HowdahError `unknown_backup` */
  function named(summaries: readonly BackupSummary[], label: string): BackupSummary {
    const summary = summaries.find((backup) => backup.label === label)
    if (summary !== undefined) return summary
    throw unknownBackup(
      stanza,
      label,
      summaries.map((backup) => backup.label),
    )
  }

  const archiveOf = ({ systemIdentifier, postgresVersion }: BackupSummary) =>
    openArchive(repository, stanza, { systemIdentifier, postgresVersion })

  /** Of a backup that carries WAL: kept for as long as its manifest is the same. */
  async function ownWalOf(summary: BackupSummary): Promise<OwnWal> {
    const { path, identity } = await files.manifestIdentity(summary.label)
    const known = ownWal.get(path)
    if (known?.identity === identity) return known.wal
    const opened = await openWith(summary)
    try {
      const wal = summary.offline === true ? await findOwnWal(opened) : await findCopiedWal(opened)
      ownWal.set(path, { identity, wal })
      return wal
    } finally {
      await opened.close()
    }
  }

  /** The summary of a backup of a stopped server, with the position that its own WAL has. */
  async function withPosition(summary: BackupSummary): Promise<BackupSummary> {
    if (summary.offline !== true || summary.unusable !== undefined) return summary
    try {
      return { ...summary, ...(await ownWalOf(summary)).position }
    } catch (error) {
      if (!(error instanceof HowdahError) || error.retryable) throw error
      return { ...summary, unusable: error.message }
    }
  }

  async function archiveFor(backup: BackupSummary): Promise<WalArchive> {
    const id = JSON.stringify([stanza, backup.systemIdentifier, backup.postgresVersion])
    const known = archives.get(id)
    if (known !== undefined) return known
    const opening = archiveOf(backup).then((locator) => createWalArchive(id, locator, spool))
    archives.set(id, opening)
    opening.catch(() => archives.delete(id))
    return opening
  }

  /** Whether the archive has lost WAL that the backup carries. Otherwise the archive is quicker to read. */
  async function needsCopies(
    { label, startWal, stopWal }: BackupSummary,
    archive: WalArchive,
  ): Promise<boolean> {
    const { withWal } = await files.info()
    if (!withWal.has(label) || startWal === undefined || stopWal === undefined) return false
    const listing = await archive.list()
    return !hasSegment(listing, startWal) || !hasSegment(listing, stopWal)
  }

  async function openWith(summary: BackupSummary): Promise<OpenBackup> {
    const { backups } = await files.info()
    const manifest = await files.manifest(summary.label)
    const archive = await archiveOf(summary)
    return openBackup(
      {
        summary,
        tree: manifest.tree,
        pageErrors: manifest.pageErrors,
        storedFile: storedFiles({
          root,
          linkTargets,
          stanzaDirectory: files.directory,
          manifest,
          labels: backups.map(({ label }) => label),
          blockFiles,
          verifyChecksums,
        }),
        wal: createWalFiles(archive, spool, stanza),
      },
      spool,
    )
  }

  return {
    name: stanza,
    async backups() {
      const { backups } = await files.info()
      return oldestFirst(
        await mapConcurrently(backups, async (one) => withPosition(await files.withUnusable(one))),
      )
    },
    async wal(backup) {
      const archive = await archiveFor(backup)
      if (backup.offline !== true && !(await needsCopies(backup, archive))) return archive
      const own = await ownWalOf(backup)
      return archiveWithOwnWal(archive, backup.label, own, () => openWith(backup))
    },
    databases: (label) => databaseNames((bytes) => files.manifestHead(label, bytes)),
    async open(label): Promise<OpenBackup> {
      const { backups, withWal } = await files.info()
      const summary = named(backups, label)
      if (summary.offline !== true && !withWal.has(label)) return openWith(summary)
      const own = await ownWalOf(summary)
      return backupWithOwnWal(await openWith({ ...summary, ...own.position }), own)
    },
  }
}

/** A stanza may be on another disk; whether its link may be followed is checked when it is read. */
const isDirectoryOrLink = (entry: Dirent) => entry.isDirectory() || entry.isSymbolicLink()
