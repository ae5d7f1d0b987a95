/** Reports damaged blocks: an event and a log line each, once per block. */
import type { Logger } from 'pino'
import type { EventBody } from '../../../messages/definitions.ts'
import { errorBody } from '../../../messages/errors.ts'
import type { DamagedBlock } from './verified-backup.ts'

export type Damage = EventBody<'repository.damage'>

export interface DamageReports {
  /** For `verifiedBackup`. */
  of(backup: Pick<Damage, 'repository' | 'instance' | 'backup'>): (damage: DamagedBlock) => void
}

/** The most blocks of one backup that are reported: a backup may be damaged everywhere. */
const MOST_REPORTED = 1000
/** Backups whose blocks are remembered. */
const BACKUPS = 256

/** @param emit rejects when the event cannot be sent, which is logged and not retried */
export function createDamageReports(emit: (damage: Damage) => Promise<void>, logger: Logger): DamageReports {
  const known = new Map<string, Set<string>>()

  function blocksOf(backup: string): Set<string> {
    const blocks = known.get(backup) ?? new Set()
    known.delete(backup)
    known.set(backup, blocks)
    for (const oldest of known.keys()) {
      if (known.size <= BACKUPS) break
      known.delete(oldest)
    }
    return blocks
  }

  return {
    of(backup) {
      const key = JSON.stringify([backup.repository, backup.instance, backup.backup])
      return ({ file, block, what }) => {
        const reported = blocksOf(key)
        const name = `${file} ${block}`
        if (reported.size > MOST_REPORTED || reported.has(name)) return
        reported.add(name)
        if (reported.size > MOST_REPORTED) {
          logger.error(
            backup,
            `more than ${MOST_REPORTED} blocks of this backup are damaged; no others are reported`,
          )
          return
        }
        const damage = { ...backup, file, block, what }
        logger.error(damage, `block ${block} of ${file} of backup ${backup.backup} is damaged: ${what}`)
        emit(damage).catch((error: unknown) => {
          logger.warn({ ...damage, error: errorBody(error) }, 'the event of a damaged block was not sent')
        })
      }
    },
  }
}
