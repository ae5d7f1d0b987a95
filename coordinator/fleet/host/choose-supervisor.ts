/** Which supervisor a host has. */
import { existsSync } from 'node:fs'
import type { HostPaths } from './host-paths.ts'
import { createInitSupervisor } from './init-supervisor.ts'
import type { Supervisor } from './supervisor.ts'
import { createSystemdSupervisor } from './systemd-supervisor.ts'

/** Where systemd is process 1; sd_booted(3). */
export function chooseSupervisor(paths: HostPaths): Supervisor {
  return existsSync(paths.systemd) ? createSystemdSupervisor(paths) : createInitSupervisor(paths)
}
