/**
 * Passes on to clients what agents report about sessions. Clients see only what the coordinator publishes, after it has
 * accepted the report. Nothing waits for it; a report that cannot be passed on is logged.
 */
import type { Bus, ReportDelivery } from '../../messages/bus.ts'
import type { EventBody, SessionEventType } from '../../messages/definitions.ts'
import type { Store } from '../store/store.ts'
import type { BackgroundWork } from './background-work.ts'

export type SessionReport = Extract<ReportDelivery, { readonly type: SessionEventType }>

export interface ReportRelay {
  report(report: SessionReport): void
  /** A damaged block concerns every session that reads the backup. */
  damage(damage: EventBody<'repository.damage'>): Promise<void>
}

export interface ReportRelayOptions {
  readonly store: Pick<Store, 'sessions'>
  readonly bus: Pick<Bus, 'emit'>
  readonly background: BackgroundWork
}

export function createReportRelay({ store, bus, background }: ReportRelayOptions): ReportRelay {
  return {
    report({ type, body }) {
      // The result of a step is between agent and coordinator: it has the ticket, for example.
      const { result: _, ...event } = body as typeof body & { result?: unknown }
      background.track(`passing on ${type}`, body.session, bus.emit(type, event as never))
    },

    async damage(damage) {
      for (const { id, request, results } of await store.sessions({ settled: false })) {
        const reads =
          request.repository === damage.repository &&
          request.instance === damage.instance &&
          results.resolve?.backup.label === damage.backup
        if (!reads) continue
        background.track('announcing a damage', id, bus.emit('session.damage', { session: id, ...damage }))
      }
    },
  }
}
