/** The backup that a mount process serves, and the state of its connection. */
import type { BackupSource } from '../../dataplane/backup-source.ts'

/** A backup whose server may be unreachable. */
export type MountSource = BackupSource & {
  readonly connected: boolean
  readonly lastError?: string | undefined
  /** Milliseconds since the epoch: when the server was last connected, and since when it is unreachable. */
  readonly connectedAt?: number | undefined
  readonly lostAt?: number | undefined
  /** Requests that wait for their answers. */
  readonly inFlight?: number
}
