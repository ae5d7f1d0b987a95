/**
 * Makes another version the current one of a host, and restarts its agents in it. Published instances stay up: their
 * mount processes go on in the version that they were started with, until they end.
 */
import path from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'
import { agentStatus, agentsOfHost } from './host-agents.ts'
import { type AgentKind, configurationFile, type HostPaths, roleOf } from './host-paths.ts'
import {
  checkVersion,
  linkedVersion,
  removeDanglingLink,
  removeUnusedVersions,
  setLink,
} from './installed-versions.ts'
import { type HostReport, note } from './report.ts'
import { runProgram } from './run-program.ts'
import type { Supervisor } from './supervisor.ts'

/** Safe to repeat: what a switch that was cut off has not done is done by the next. @throws HowdahError; nothing is changed then */
export async function switchVersion(
  paths: HostPaths,
  supervisor: Supervisor,
  version: string,
): Promise<HostReport> {
  checkVersion(paths, version)
  const kinds = agentsOfHost(paths)
  for (const kind of kinds) await checkConfiguration(paths, version, kind)
  const report: HostReport = { changed: [], kept: [] }
  const current = linkedVersion(paths, 'current')
  if (current !== undefined && current !== version) await setLink(paths, 'previous', current)
  await removeDanglingLink(paths, 'previous')
  note(report, `version ${version}`, await setLink(paths, 'current', version))
  for (const kind of kinds) await restart(paths, supervisor, kind, version, report)
  for (const removed of await removeUnusedVersions(paths)) note(report, `removed version ${removed}`, true)
  return report
}

/** As its own release reads it: a key that it does not know would keep the agent from starting. */
async function checkConfiguration(paths: HostPaths, version: string, kind: AgentKind): Promise<void> {
  const program = path.join(paths.programs, version, 'bin/howdah')
  const args = [roleOf(kind), '--config', configurationFile(paths, kind), '--check-configuration']
  const { status, stderr } = await runProgram(program, args)
  if (status === 0) return
  throw new HowdahError(
    'configuration',
    `version ${version} does not take the configuration of the ${kind} agent, so nothing was changed: ${stderr.trim()}`,
  )
}

/** Only an agent that runs, and runs another version. */
async function restart(
  paths: HostPaths,
  supervisor: Supervisor,
  kind: AgentKind,
  version: string,
  report: HostReport,
): Promise<void> {
  const before = await agentStatus(paths, supervisor, kind)
  if (before.state === 'stopped' || before.version === version) {
    await supervisor.install(kind, report)
    return note(report, `${kind} agent: ${before.state}`, false)
  }
  // Stopped by what started it: the service may be another one in this version.
  await supervisor.stop(kind)
  await supervisor.install(kind, report)
  await supervisor.start(kind)
  note(report, `${kind} agent: restarted`, true)
}
