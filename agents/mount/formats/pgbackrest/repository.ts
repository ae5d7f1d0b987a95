/** A pgBackRest repository: its stanzas, their backups, and opening one. */
import type { Dirent } from 'node:fs'
import { access, constants, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import { inOrder } from '../../backup-order.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import { archiveWithOwnWal, backupWithOwnWal, findCopiedWal, findOwnWal, type OwnWal } from '../../own-wal.ts'
import type { Instance, OpenBackup, Repository, RepositoryOptions, WalArchive } from '../../repository.ts'
import type { Spool } from '../../spool/spool.ts'
import { hasSegment } from '../../wal-listing.ts'
import { mapSome } from '../map-some.ts'
import { openBackup } from '../open-backup.ts'
import { isSafePath } from '../safe-path.ts'
import { unknownBackup, unknownInstance } from '../unknown.ts'
import { createWalArchive, createWalFiles } from '../wal-files.ts'
import { type Access, createAccess } from './access.ts'
import { openArchive } from './archive.ts'
import { type BackupInfo, parseBackupInfo } from './backup-info.ts'
import { type BlockFiles, createBlockFiles } from './block-file.ts'
import { readInfoFile, readInfoHead } from './info-file.ts'
import { parseManifest } from './manifest.ts'
import { createManifestCache, type ManifestCache } from './manifest-cache.ts'
import { databaseNames, HEAD_BYTES } from './manifest-head.ts'
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
  /** By stanza and cluster: what was listed once is only listed again where it changed. */
  readonly archives: Map<string, Promise<WalArchive>>
  /** By stanza. */
  readonly infos: Map<string, { readonly identity: string; readonly info: BackupInfo }>
  /** By path of the manifest. */
  readonly ownWal: Map<string, { readonly identity: string; readonly wal: OwnWal }>
  readonly blockFiles: BlockFiles
  readonly verifyChecksums: boolean
}

function openStanza(repository: Access, stanza: string, shared: Shared): Instance {
  const { root, linkTargets } = repository
  const { spool, manifests, archives, infos, ownWal, blockFiles, verifyChecksums } = shared
  const directory = join(root, 'backup', stanza)

  const infoPath = join(directory, 'backup.info')

  /** Read again when it, or its copy, is not the file that it was. */
  async function readListing(): Promise<BackupInfo> {
    const identity = await identityOf([infoPath, `${infoPath}.copy`])
    const known = infos.get(stanza)
    if (known?.identity === identity) return known.info
    const info = await readInfoFile(repository, infoPath, parseBackupInfo)
    infos.set(stanza, { identity, info })
    return info
  }

  const manifestPath = (label: string) => join(directory, label, 'backup.manifest')

  const manifestHead = async (label: string, { passphrase }: BackupInfo) =>
    readInfoHead({ root, linkTargets, passphrase }, manifestPath(label), HEAD_BYTES)

  /** Without its manifest nothing of a backup can be found. */
  async function withUnusable(summary: BackupSummary): Promise<BackupSummary> {
    if (summary.unusable !== undefined) return summary
    const path = manifestPath(summary.label)
    const isReadable = await access(path, constants.R_OK)
      .catch(() => access(`${path}.copy`, constants.R_OK))
      .then(
        () => true,
        () => false,
      )
    return isReadable ? summary : { ...summary, unusable: 'its manifest is missing or cannot be read' }
  }

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

  /** Of a backup that carries WAL: remembered for as long as its manifest is the same. */
  async function ownWalOf(summary: BackupSummary): Promise<OwnWal> {
    const path = manifestPath(summary.label)
    const identity = await identityOf([path, `${path}.copy`])
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

  /** Whether the archive has lost WAL that the backup carries: most often it is all there, and quicker to get at. */
  async function needsCopies(
    { label, startWal, stopWal }: BackupSummary,
    archive: WalArchive,
  ): Promise<boolean> {
    if (!(await readListing()).withWal.has(label) || startWal === undefined || stopWal === undefined)
      return false
    const listing = await archive.list()
    return !hasSegment(listing, startWal) || !hasSegment(listing, stopWal)
  }

  return {
    name: stanza,
    async backups() {
      const { backups } = await readListing()
      return inOrder(await mapSome(backups, async (one) => withPosition(await withUnusable(one))))
    },
    async wal(backup) {
      const archive = await archiveFor(backup)
      if (backup.offline !== true && !(await needsCopies(backup, archive))) return archive
      const own = await ownWalOf(backup)
      return archiveWithOwnWal(archive, backup.label, own, () => openWith(backup))
    },
    databases: async (label) => databaseNames(await manifestHead(label, await readListing())),
    async open(label): Promise<OpenBackup> {
      const summary = named((await readListing()).backups, label)
      const isCopied = (await readListing()).withWal.has(label)
      if (summary.offline !== true && !isCopied) return openWith(summary)
      const own = await ownWalOf(summary)
      return backupWithOwnWal(await openWith({ ...summary, ...own.position }), own)
    },
  }

  async function openWith(summary: BackupSummary): Promise<OpenBackup> {
    const { label } = summary
    const { backups: summaries, passphrase } = await readListing()
    const path = manifestPath(label)
    const manifest = await manifests.get(path, () =>
      readInfoFile({ root, linkTargets, passphrase }, path, (bytes) => parseManifest(bytes, path)),
    )
    if (manifest.label !== label) {
      throw new HowdahError('backup_damaged', `${path} is of backup ${manifest.label}`)
    }
    const labels = summaries.map((backup) => backup.label)
    for (const reference of manifest.references) {
      if (labels.includes(reference)) continue
      throw new HowdahError(
        'backup_damaged',
        `backup ${label} refers to files of backup ${JSON.stringify(reference)}, which is not in the repository`,
      )
    }
    const archive = await archiveOf(summary)
    return openBackup(
      {
        summary,
        tree: manifest.tree,
        pageErrors: manifest.pageErrors,
        storedFile: storedFiles({
          root,
          linkTargets,
          stanzaDirectory: directory,
          manifest,
          labels,
          blockFiles,
          verifyChecksums,
        }),
        wal: createWalFiles(archive, spool, stanza),
      },
      spool,
    )
  }
}

/** A stanza may be on another disk; whether its link may be followed is found when it is read. */
const isDirectoryOrLink = (entry: Dirent) => entry.isDirectory() || entry.isSymbolicLink()

/** What tells these files from those that were there before or will be. */
async function identityOf(paths: readonly string[]): Promise<string> {
  const stats = await Promise.all(paths.map((path) => stat(path, { bigint: true }).catch(() => undefined)))
  return stats
    .map((found) => found && [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs])
    .join()
}
