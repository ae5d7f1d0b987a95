/** The step `preflight`: checks this machine and reserves the session's port. Its undo releases the port. */
import type { StepHandler } from '../../runtime/step-runner.ts'
import { preflight } from '../preflight/preflight.ts'
import { removeRoot } from '../preflight/roots.ts'
import type { PreflightSettings } from '../preflight/settings.ts'
import { createReleasedPorts } from '../room/released-ports.ts'
import { readSession } from '../session/published-session.ts'

export interface PreflightStepOptions {
  readonly settings: PreflightSettings
  /** Ports that sessions of this target have, by session; 0: not chosen yet. */
  readonly ports: Map<string, number>
  readonly cachePathOf: (session: string) => string
}

export function preflightStep({
  settings,
  ports,
  cachePathOf,
}: PreflightStepOptions): StepHandler<'preflight'> {
  const released = createReleasedPorts(settings.portRange)
  const takenByOthers = (session: string): Set<number> =>
    new Set([...ports].filter(([id]) => id !== session).map(([, port]) => port))

  return {
    async run({ session, input }, { signal }) {
      // From now on the session counts, so the roots are not removed while it is being published.
      ports.set(session, ports.get(session) ?? 0)
      for (;;) {
        const reservedPorts = takenByOthers(session)
        if (input.options.port === undefined) for (const port of released.ports()) reservedPorts.add(port)
        const result = await preflight({ session, input, settings, reservedPorts, signal })
        // Sessions that are checked at the same time may have chosen the same free port.
        if (takenByOthers(session).has(result.port)) continue
        ports.set(session, result.port)
        return result
      }
    },
    async undo({ session, input }) {
      // A write cache that is kept is published again on the same port.
      if (input.keepCache && readSession(cachePathOf(session))?.kept) return { undone: [] }
      released.release(ports.get(session))
      ports.delete(session)
      if (ports.size === 0) {
        await removeRoot(settings.mountRoot)
        await removeRoot(settings.cacheRoot)
      }
      return { undone: [] }
    },
  }
}
