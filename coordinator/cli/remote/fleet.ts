/** What the coordinator does for an installation, as an ordinary client asks it. */
import type { Bus } from '../../../messages/bus.ts'
import { type ErrorCode, HowdahError } from '../../../messages/errors.ts'
import type { ChangingFleet } from '../../fleet/install/change-version.ts'
import type { RemovingFleet } from '../../fleet/install/uninstall.ts'
import type { Deadline } from '../deadline.ts'
import { ask, listSessions } from '../request.ts'

/** @param again enrol an agent also if it was revoked */
export function fleetOf(bus: Bus, deadline: Deadline, again = false): ChangingFleet {
  return {
    async certify(request) {
      const { certificate, ca } = await ask(
        bus,
        'agent.certify',
        { ...request, ...(again && { again }) },
        deadline.asking(),
      )
      return { certificate, ca }
    },
    async agent(kind, name) {
      const { agents } = await ask(bus, 'agent.list', {}, deadline.asking())
      return agents.find((one) => one.kind === kind && one.name === name)
    },
    async sessions(target) {
      const { sessions } = await listSessions(bus, { target }, deadline.asking())
      return new Map(sessions.map(({ id, state }) => [id, state]))
    },
  }
}

/** With what ends agents. */
export function removingFleetOf(bus: Bus, deadline: Deadline): RemovingFleet {
  const unless = async (code: ErrorCode, work: Promise<unknown>): Promise<boolean> => {
    try {
      await work
      return true
    } catch (error) {
      if (error instanceof HowdahError && error.code === code) return false
      throw error
    }
  }
  return {
    ...fleetOf(bus, deadline),
    async unpublish(session) {
      await ask(bus, 'session.unpublish', { session }, deadline.asking())
    },
    revoke: (kind, name) =>
      unless('configuration', ask(bus, 'agent.revoke', { kind, name }, deadline.asking())),
    async forget(kind, name) {
      await unless('unknown_agent', ask(bus, 'agent.forget', { kind, name }, deadline.asking()))
    },
  }
}
