/**
 * The files by which a stanza describes its backups, read again only when they changed: backup.info, and of each backup
 * its manifest.
 */
import { constants, open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import type { Access } from './access.ts'
import { type BackupInfo, parseBackupInfo } from './backup-info.ts'
import { readInfoFile, readInfoHead } from './info-file.ts'
import { type Manifest, parseManifest } from './manifest.ts'
import type { ManifestCache } from './manifest-cache.ts'

/** By stanza: backup.info as it was read last. */
export type KnownInfos = Map<string, { readonly identity: string; readonly info: BackupInfo }>

export interface StanzaFiles {
  /** `backup/<stanza>` */
  readonly directory: string
  /** backup.info. @throws HowdahError as `readInfoFile` */
  info(): Promise<BackupInfo>
  /**
   * A backup's manifest; what it refers to is in the repository.
   * @throws HowdahError as `readInfoFile`, `backup_damaged` | `backup_unsupported`
   */
  manifest(label: string): Promise<Manifest>
  /** Up to `bytes` from the beginning of a manifest; undefined when it cannot be read. */
  manifestHead(label: string, bytes: number): Promise<Buffer | undefined>
  /** Where a backup's manifest is, and what identifies it and its copy as they are now. */
  manifestIdentity(label: string): Promise<{ readonly path: string; readonly identity: string }>
  /** The summary, as unusable when the backup's manifest cannot be read: without it no file of the backup is found. */
  withUnusable(summary: BackupSummary): Promise<BackupSummary>
}

export function openStanzaFiles(
  repository: Access,
  stanza: string,
  manifests: ManifestCache,
  infos: KnownInfos,
): StanzaFiles {
  const { root, linkTargets } = repository
  const directory = join(root, 'backup', stanza)
  const infoPath = join(directory, 'backup.info')
  const manifestPath = (label: string) => join(directory, label, 'backup.manifest')

  async function info(): Promise<BackupInfo> {
    const identity = await identityOf([infoPath, `${infoPath}.copy`])
    const known = infos.get(stanza)
    if (known?.identity === identity) return known.info
    const found = await readInfoFile(repository, infoPath, parseBackupInfo)
    infos.set(stanza, { identity, info: found })
    return found
  }

  return {
    directory,
    info,
    async manifest(label) {
      const { backups, passphrase } = await info()
      const path = manifestPath(label)
      const manifest = await manifests.get(path, () =>
        readInfoFile({ root, linkTargets, passphrase }, path, (bytes) => parseManifest(bytes, path)),
      )
      if (manifest.label !== label) {
        throw new HowdahError('backup_damaged', `${path} is of backup ${manifest.label}`)
      }
      for (const reference of manifest.references) {
        if (backups.some((backup) => backup.label === reference)) continue
        throw new HowdahError(
          'backup_damaged',
          `backup ${label} refers to files of backup ${JSON.stringify(reference)}, which is not in the repository`,
        )
      }
      return manifest
    },
    async manifestHead(label, bytes) {
      const { passphrase } = await info()
      return readInfoHead({ root, linkTargets, passphrase }, manifestPath(label), bytes)
    },
    async manifestIdentity(label) {
      const path = manifestPath(label)
      return { path, identity: await identityOf([path, `${path}.copy`]) }
    },
    async withUnusable(summary) {
      if (summary.unusable !== undefined) return summary
      const path = manifestPath(summary.label)
      return (await canOpen(path)) || (await canOpen(`${path}.copy`))
        ? summary
        : { ...summary, unusable: 'its manifest is missing or cannot be read' }
    },
  }
}

/** Not access(2), which leaves out the capability by which a mount agent without root reads what belongs to others. */
async function canOpen(path: string): Promise<boolean> {
  try {
    await (await open(path, constants.O_RDONLY | constants.O_NONBLOCK)).close()
    return true
  } catch {
    return false
  }
}

/** What identifies these files in their present state. */
async function identityOf(paths: readonly string[]): Promise<string> {
  const stats = await Promise.all(paths.map((path) => stat(path, { bigint: true }).catch(() => undefined)))
  return stats
    .map((found) => found && [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs])
    .join()
}
