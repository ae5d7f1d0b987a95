/** Agents as services of systemd. Owns the units of `paths.units`; those of a package and drop-ins are left alone. */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'
import { type AgentKind, type HostPaths, roleOf } from './host-paths.ts'
import { installFile, ownFile, removeFile } from './installed-file.ts'
import { ensureDirectory } from './managed-file.ts'
import { note } from './report.ts'
import { type ProgramResult, runProgram } from './run-program.ts'
import type { Supervisor } from './supervisor.ts'

export function createSystemdSupervisor(paths: HostPaths): Supervisor {
  const unitOf = (kind: AgentKind) => `howdah-${roleOf(kind)}.service`
  const fileOf = (kind: AgentKind) => path.join(paths.units, unitOf(kind))

  async function install(kind: AgentKind, report: Parameters<Supervisor['install']>[1]): Promise<void> {
    const unit = unitOf(kind)
    const packaged = path.join(paths.packagedUnits, unit)
    if (existsSync(packaged)) note(report, `${packaged}: of the package`, false)
    else {
      await ensureDirectory(paths.units, { mode: 0o755, owner: { uid: 0, gid: 0 } })
      const installed = await installFile(fileOf(kind), ownFile(unit), 0o644)
      const edited = `: it was edited; move the changes to a drop-in ("systemctl edit ${unit}"), remove the file, and repeat this`
      note(report, `${fileOf(kind)}${installed === 'edited' ? edited : ''}`, installed === 'changed')
    }
    await systemctl('daemon-reload')
    const enabled = (await ask('is-enabled', unit)).status === 0
    if (!enabled) await systemctl('enable', unit)
    note(report, `service ${unit}`, !enabled)
  }

  return {
    name: 'systemd',
    install,
    async uninstall(kind, report) {
      const unit = unitOf(kind)
      if ((await ask('is-enabled', unit)).status === 0) {
        await systemctl('disable', unit)
        note(report, `service ${unit}`, true)
      }
      if (await removeFile(fileOf(kind))) note(report, fileOf(kind), true)
      await systemctl('daemon-reload')
      // Forgets a failure, and with it the name of the unit.
      await ask('reset-failed', unit)
    },
    start: (kind) => systemctl('start', unitOf(kind)),
    stop: (kind) => systemctl('stop', unitOf(kind)),
    async process(kind) {
      const { stdout } = await ask('show', '--property=MainPID', '--value', unitOf(kind))
      const pid = Number(stdout)
      return pid > 0 ? pid : undefined
    },
  }
}

function ask(...args: readonly string[]): Promise<ProgramResult> {
  return runProgram('systemctl', args)
}

/** @throws HowdahError `operation_failed` */
async function systemctl(...args: readonly string[]): Promise<void> {
  const { status, stderr } = await ask(...args)
  if (status === 0) return
  const unit = args[1] === undefined ? '' : `; "journalctl -u ${args[1]}" may say why`
  throw new HowdahError('operation_failed', `systemctl ${args.join(' ')}: ${stderr.trim()}${unit}`)
}
