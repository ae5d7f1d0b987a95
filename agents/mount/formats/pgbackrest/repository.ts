/** A pgBackRest repository: its stanzas, their backups, and opening one. */
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { BackupSummary } from '../../../../messages/definitions.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import type { Instance, OpenBackup, Repository, RepositoryOptions, WalArchive } from '../../repository.ts'
import type { Spool } from '../../spool.ts'
import { openBackup } from '../open-backup.ts'
import { isSafePath } from '../safe-path.ts'
import { unknownBackup, unknownInstance } from '../unknown.ts'
import { createWalArchive, createWalFiles } from '../wal-files.ts'
import { openArchive } from './archive.ts'
import { parseBackupInfo } from './backup-info.ts'
import { readInfoFile } from './info-file.ts'
import { parseManifest, unsupportedReason } from './manifest.ts'
import { createManifestCache, type ManifestCache } from './manifest-cache.ts'
import { storedFiles } from './stored-files.ts'

export function openPgbackrest(options: RepositoryOptions, spool: Spool): Repository {
  const root = options.path
  const backupDirectory = join(root, 'backup')
  const manifests = createManifestCache()
  /** By stanza and cluster: what was listed once is only listed again where it changed. */
  const archives = new Map<string, Promise<WalArchive>>()

  async function instances(): Promise<string[]> {
    try {
      const entries = await readdir(backupDirectory, { withFileTypes: true })
      return entries
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name)
        .sort()
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
    instances,
    async instance(name) {
      const names = await instances()
      if (!names.includes(name) || !isSafePath(name)) throw unknownInstance(options.name, name, names)
      return openStanza(root, name, { spool, manifests, archives })
    },
  }
}

interface Shared {
  readonly spool: Spool
  readonly manifests: ManifestCache
  readonly archives: Map<string, Promise<WalArchive>>
}

function openStanza(root: string, stanza: string, shared: Shared): Instance {
  const { spool, manifests, archives } = shared
  const directory = join(root, 'backup', stanza)

  const listed = async () =>
    (await readInfoFile(root, join(directory, 'backup.info'), parseBackupInfo)).backups

  async function withUnusable(summary: BackupSummary): Promise<BackupSummary> {
    if (summary.unusable !== undefined) return summary
    const unusable = await manifestFinding(join(directory, summary.label), summary.label)
    return unusable === undefined ? summary : { ...summary, unusable }
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
    openArchive(root, stanza, { systemIdentifier, postgresVersion })

  return {
    name: stanza,
    backups: async () => Promise.all((await listed()).map(withUnusable)),
    async wal(backup) {
      const id = JSON.stringify([stanza, backup.systemIdentifier, backup.postgresVersion])
      const known = archives.get(id)
      if (known !== undefined) return known
      const opening = archiveOf(backup).then((locator) => createWalArchive(id, locator, spool))
      archives.set(id, opening)
      opening.catch(() => archives.delete(id))
      return opening
    },
    databases: async (label) => databaseNames(join(directory, label)),
    async open(label): Promise<OpenBackup> {
      const summaries = await listed()
      const summary = named(summaries, label)
      const manifestPath = join(directory, label, 'backup.manifest')
      const manifest = await manifests.get(manifestPath, () =>
        readInfoFile(root, manifestPath, (bytes) => parseManifest(bytes, manifestPath)),
      )
      if (manifest.label !== label) {
        throw new HowdahError('backup_damaged', `${manifestPath} is of backup ${manifest.label}`)
      }
      for (const reference of manifest.references) {
        if (summaries.some((backup) => backup.label === reference)) continue
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
          storedFile: storedFiles(root, directory, label, manifest.compressType),
          wal: createWalFiles(archive, spool, stanza),
        },
        spool,
      )
    },
  }
}

const HEAD_BYTES = 16 * 1024

/** Why a backup cannot be published, as far as the first lines of its manifest tell; they are quick to read for any size. */
async function manifestFinding(directory: string, label: string): Promise<string | undefined> {
  const head =
    (await readHead(join(directory, 'backup.manifest'))) ??
    (await readHead(join(directory, 'backup.manifest.copy')))
  if (head === undefined) return 'its manifest is missing or cannot be read'
  if (head.startsWith('Salted__')) return 'it is encrypted, which Howdah cannot read yet'
  return /^backup-(block-incr|bundle-raw)=true$/m.test(head) ? unsupportedReason(label) : undefined
}

/** From section `[db]`, which stands before the files; undefined when it does not stand in the manifest's head. */
async function databaseNames(directory: string): Promise<string[] | undefined> {
  const head = await readHead(join(directory, 'backup.manifest'))
  const [, section] = /\n\[db\]\n(.*?)\n\[/s.exec(head ?? '') ?? []
  if (section === undefined) return undefined
  const names = section.split('\n').flatMap((line) => /^(.+)=\{"db-id":/.exec(line)?.[1] ?? [])
  return names.filter((name) => !/^template[01]$/.test(name)).sort()
}

async function readHead(path: string): Promise<string | undefined> {
  try {
    const file = await open(path)
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0)
      return buffer.toString('utf8', 0, bytesRead)
    } finally {
      await file.close()
    }
  } catch {
    return undefined
  }
}
