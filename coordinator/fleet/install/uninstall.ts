/** Removes agents from a host and from the fleet, so that nothing is left of them. */
import { HowdahError } from '../../../messages/errors.ts'
import { pause } from '../../../messages/wait.ts'
import type { AgentKind } from '../host/host-paths.ts'
import type { RootShell } from '../ssh/elevation.ts'
import type { ChangingFleet } from './change-version.ts'
import type { HostFacts } from './host-facts.ts'
import { type Changes, hostPrograms } from './host-programs.ts'
import { expectSuccess, PROGRAMS } from './upload.ts'

export interface RemovingFleet extends ChangingFleet {
  /** Unpublishes a session with what was changed in it. */
  unpublish(session: string): Promise<void>
  /** Shuts an agent out, and removes its user of the broker. Resolves to false where users are made by hand. */
  revoke(kind: AgentKind, name: string): Promise<boolean>
  /** Removes what the coordinator knows of an agent; none: nothing is removed. */
  forget(kind: AgentKind, name: string): Promise<void>
}

export interface Removal {
  readonly host: string
  readonly root: RootShell
  readonly facts: HostFacts
  readonly fleet: RemovingFleet
  /** Undefined: all that are there. */
  readonly kind: AgentKind | undefined
  /** Unpublish the sessions of a target first, whatever was changed in them. */
  readonly force: boolean
  readonly progress: (text: string) => void
  readonly signal: AbortSignal
}

const UNPUBLISH_MS = 300_000
const OFFLINE_MS = 60_000
const POLL_MS = 500

/** @returns the agents that were removed. @throws HowdahError `agent_in_use`: there are sessions */
export async function uninstallHost(removal: Removal): Promise<{ kind: AgentKind; name: string }[]> {
  const { host, root, facts, kind, progress, signal } = removal
  if (facts.package !== undefined)
    throw new HowdahError(
      'configuration',
      `Howdah came to ${host} by the Debian package: "apt purge howdah" there removes it.`,
    )
  const agents = facts.agents.filter((agent) => kind === undefined || agent.kind === kind)
  for (const agent of agents) if (agent.kind === 'target') await endSessions(removal, agent.name)
  const version = facts.installed ?? facts.versions[0]
  if (version !== undefined) {
    progress('removing it from the server')
    const kinds = kind === undefined ? [] : ['--kind', kind]
    // The one of a version that is there in full: an installation may have ended before there was a current one.
    await hostPrograms(root, version, host, signal).run<Changes>('remove', ['--purge', ...kinds])
  }
  if (facts.agents.length === agents.length) await removeRest(removal)
  for (const agent of agents) {
    progress(`removing the ${agent.kind} agent "${agent.name}" from the fleet`)
    await removeFromFleet(removal, agent)
  }
  return agents
}

async function endSessions({ fleet, host, force, progress, signal }: Removal, target: string): Promise<void> {
  const open = async (): Promise<string[]> => [...(await fleet.sessions(target)).keys()]
  const sessions = await open()
  if (sessions.length === 0) return
  if (!force)
    throw new HowdahError(
      'agent_in_use',
      `the target "${target}" on ${host} has sessions: ${sessions.join(', ')}. Unpublish them first, or give --force, which discards what was changed in them.`,
    )
  for (const session of sessions) {
    progress(`unpublishing ${session}`)
    await fleet.unpublish(session)
  }
  const deadline = Date.now() + UNPUBLISH_MS
  for (;;) {
    const left = await open()
    if (left.length === 0) return
    if (Date.now() > deadline)
      throw new HowdahError(
        'timeout',
        `sessions of "${target}" are not unpublished after ${UNPUBLISH_MS / 1000} s: ${left.join(', ')}`,
      )
    await pause(POLL_MS, signal)
  }
}

/** What an installation that was cut off left beside the versions. */
async function removeRest({ root, host, signal }: Removal): Promise<void> {
  const script = `[ -d ${PROGRAMS} ] || exit 0; rm -rf ${PROGRAMS}/.upload-* ${PROGRAMS}/.lock ${PROGRAMS}/*.partial; rmdir ${PROGRAMS}`
  expectSuccess(await root.run(script, { signal, deadlineMs: 60_000 }), host, `removing ${PROGRAMS}`)
}

/** An agent that has just been stopped may count as online for a moment. */
async function removeFromFleet(
  { fleet, signal }: Removal,
  { kind, name }: { kind: AgentKind; name: string },
): Promise<void> {
  await fleet.revoke(kind, name)
  const deadline = Date.now() + OFFLINE_MS
  for (;;) {
    try {
      return await fleet.forget(kind, name)
    } catch (error) {
      if (!(error instanceof HowdahError) || error.code !== 'agent_in_use' || Date.now() > deadline)
        throw error
      await pause(POLL_MS, signal)
    }
  }
}
