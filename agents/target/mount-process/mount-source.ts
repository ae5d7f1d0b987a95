import type { BackupSource } from '../../dataplane/backup-source.ts'

/** A backup whose server may be away. */
export type MountSource = BackupSource & {
  readonly connected: boolean
  readonly lastError?: string | undefined
  /** Milliseconds since the epoch: when the server was reached last, and since when it is away. */
  readonly connectedAt?: number | undefined
  readonly lostAt?: number | undefined
}
