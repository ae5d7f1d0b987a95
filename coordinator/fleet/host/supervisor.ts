/** What starts an agent at boot and again when it ends: systemd, or howdah-supervise where there is none. */
import type { AgentKind } from './host-paths.ts'
import type { HostReport } from './report.ts'

export interface Supervisor {
  readonly name: 'systemd' | 'howdah-supervise'
  /** Makes the agent start at boot, from now on. Safe to repeat; takes the files of another version. */
  install(kind: AgentKind, report: HostReport): Promise<void>
  /** The agent has stopped. */
  uninstall(kind: AgentKind, report: HostReport): Promise<void>
  /** @throws HowdahError `operation_failed` when it does not run soon */
  start(kind: AgentKind): Promise<void>
  /** In order; published instances live on. Resolves when it has ended. */
  stop(kind: AgentKind): Promise<void>
  /** The process id of the agent; undefined: it does not run. */
  process(kind: AgentKind): Promise<number | undefined>
}
