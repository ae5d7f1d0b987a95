/**
 * Which backup each incremental one builds on: that of the same cluster that began where its backup_label says. One that
 * pg_combinebackup made begins where the newest of its chain does, and can take the place of that.
 */
import type { BackupSummary } from '../../../../messages/values.ts'
import { lsnOf } from '../../../wal/lsn.ts'
import type { BackupDescription, BackupDirectory } from './describe-backup.ts'

export interface ListedBackup {
  readonly found: BackupDirectory
  readonly described: BackupDescription
}

export interface Chains {
  /** Its summary, with its parent; `unusable` where its chain is. */
  summaryOf(backup: ListedBackup): BackupSummary
  /** The backups on which it builds, newest first; up to a full one where its summary is usable. */
  ancestorsOf(backup: ListedBackup): ListedBackup[]
}

interface Link {
  readonly parent: ListedBackup | undefined
  readonly unusable: string | undefined
}

/** @param all backups of an instance */
export function createChains(all: readonly ListedBackup[]): Chains {
  const links = new Map<BackupDescription, Link>()

  function linkOf({ described }: ListedBackup): Link {
    const known = links.get(described)
    if (known !== undefined) return known
    const link = findLink(described)
    links.set(described, link)
    return link
  }

  function findLink({ from, summary }: BackupDescription): Link {
    if (from === undefined || summary.unusable !== undefined) {
      return { parent: undefined, unusable: summary.unusable }
    }
    const which = `the backup that began at ${from.lsn} on timeline ${from.timeline}`
    const broken = (reason: string) => ({
      parent: undefined,
      unusable: `it builds on ${which}, which ${reason}`,
    })
    // Each begins after its parent, so that no chain is a circle.
    if ((lsnOf(from.lsn) ?? 0n) >= (lsnOf(summary.startLsn) ?? 0n)) return broken('did not begin before it')
    const began = all.filter(({ described: { summary: other } }) => {
      return (
        lsnOf(other.startLsn) === lsnOf(from.lsn) &&
        Number.parseInt(other.startWal?.slice(0, 8) ?? '', 16) === from.timeline
      )
    })
    const candidates = began.filter(({ described: { summary: other } }) => {
      const [own, its] = [summary.systemIdentifier, other.systemIdentifier]
      return own === undefined || its === undefined || own === its
    })
    const whole = candidates.find((one) => linkOf(one).unusable === undefined)
    if (whole !== undefined) return { parent: whole, unusable: undefined }
    const [candidate] = candidates
    if (candidate !== undefined) {
      return { ...broken(`cannot be used: ${linkOf(candidate).unusable}`), parent: candidate }
    }
    const [stranger] = began
    return broken(
      stranger === undefined
        ? 'is not in this instance'
        : `is not in this instance; ${stranger.found.label} began there, too, and is of another cluster`,
    )
  }

  return {
    summaryOf(backup) {
      const { parent, unusable } = linkOf(backup)
      const { summary } = backup.described
      return {
        ...summary,
        ...(parent && { parent: parent.found.label }),
        ...(unusable !== undefined && { unusable }),
      }
    },
    ancestorsOf(backup) {
      const found: ListedBackup[] = []
      for (let next = linkOf(backup).parent; next !== undefined; next = linkOf(next).parent) found.push(next)
      return found
    },
  }
}
