/**
 * Passes on to clients what agents report about sessions. Clients see only what the coordinator publishes, after it has
 * accepted the report. Nothing waits for it; a report that cannot be passed on is logged.
 */
import type { Bus, ReportDelivery } from '../../messages/bus.ts'
import type { EventBody, SessionEventType } from '../../messages/definitions.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import type { Session } from '../session.ts'
import type { Store } from '../store/store.ts'
import { tagsOf } from '../tags.ts'
import type { BackgroundWork } from './background-work.ts'

export type SessionReport = Extract<ReportDelivery, { readonly type: SessionEventType }>

export interface ReportRelay {
  /** `session`: as the report left it. */
  report(report: SessionReport, session: Session): void
  /** A damaged block concerns every session that reads the backup from the mount agent that found it. */
  damage(damage: EventBody<'repository.damage'>, sender: AgentAddress): Promise<void>
}

export interface ReportRelayOptions {
  readonly store: Pick<Store, 'sessions'>
  readonly bus: Pick<Bus, 'emit'>
  readonly background: BackgroundWork
}

export function createReportRelay({ store, bus, background }: ReportRelayOptions): ReportRelay {
  return {
    report({ type, body }, session) {
      // The result of a step is between agent and coordinator: it has the ticket, for example.
      const {
        result: _,
        reference: _reference,
        labels: _labels,
        ...event
      } = body as typeof body & { result?: unknown }
      background.track(
        `passing on ${type}`,
        body.session,
        bus.emit(type, { ...event, ...tagsOf(session) } as never),
      )
    },

    async damage(damage, { kind, name }) {
      const { repository, instance, backup } = damage
      for (const session of await store.sessions({ settled: false, repository, instance })) {
        const reads = kind === 'mount' && session.mountAgent === name
        if (!reads || session.results.resolve?.backup.label !== backup) continue
        const event = { session: session.id, ...tagsOf(session), ...damage }
        background.track('announcing a damage', session.id, bus.emit('session.damage', event))
      }
    },
  }
}
