/**
 * What the coordinator is at present: sessions, agents, queues and what waits. Read when somebody asks, never on the way of a
 * command; while the store or the broker does not answer, what they would say is missing, and everything else is there. Of the
 * agents only the active coordinator knows anything: one that stands by does not hear them.
 */
import { Gauge, type Registry } from 'prom-client'
import { QuietGauge } from '../../config/monitoring/quiet-gauge.ts'
import type { Bus } from '../../messages/bus.ts'
import { type AgentView, SESSION_STATES } from '../../messages/values.ts'
import type { AgentRegistry } from '../agent-registry.ts'
import type { Conductor } from '../conductor.ts'
import type { Leadership } from '../leadership.ts'
import type { Store } from '../store/store.ts'

export interface CoordinatorMetricsOptions {
  readonly registry: Registry
  readonly store: Pick<Store, 'sessionCounts'>
  readonly bus: Pick<Bus, 'queueLengths'>
  readonly agents: Pick<AgentRegistry, 'list' | 'obstacle'>
  readonly conductor: Pick<Conductor, 'backlog'>
  readonly leadership: () => Pick<Leadership, 'since'> | undefined
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

const KINDS = ['mount', 'target'] as const
const CONDITIONS = ['online', 'offline', 'incompatible', 'revoked'] as const

export function coordinatorMetrics(options: CoordinatorMetricsOptions): void {
  const { registry, store, bus, agents, conductor, leadership, now } = options
  const registers = [registry]
  const isActive = () => leadership()?.since !== undefined

  function conditionOf(agent: AgentView): (typeof CONDITIONS)[number] {
    if (agent.revoked) return 'revoked'
    const obstacle = agents.obstacle(agent)?.code
    if (obstacle === undefined) return 'online'
    return obstacle === 'agent_incompatible' ? 'incompatible' : 'offline'
  }

  new Gauge({
    name: 'howdah_coordinator_active',
    help: 'Whether this coordinator is the active one; 0: it stands by, or is cut off',
    registers,
    collect() {
      this.set(isActive() ? 1 : 0)
    },
  })
  new QuietGauge({
    name: 'howdah_sessions',
    help: 'Sessions of which something is on a machine, by state; closed: their changes are kept',
    labelNames: ['state'],
    registers,
    async read() {
      const counts = await store.sessionCounts()
      return SESSION_STATES.map((state) => [{ state }, counts[state] ?? 0])
    },
  })
  new QuietGauge({
    name: 'howdah_queue_messages',
    help: 'Messages that wait in the queues of the coordinator, as far as they are not delivered yet, and dead letters',
    labelNames: ['queue'],
    registers,
    async read() {
      const lengths = await bus.queueLengths()
      return [...lengths].map(([queue, messages]) => [{ queue }, messages])
    },
  })
  new Gauge({
    name: 'howdah_agents',
    help: 'Agents by kind and whether they can be given commands; incompatible: of a release that does not work with this one; revoked: shut out by an operator',
    labelNames: ['kind', 'condition'],
    registers,
    collect() {
      this.reset()
      if (!isActive()) return
      for (const kind of KINDS) {
        for (const condition of CONDITIONS) this.set({ kind, condition }, 0)
      }
      for (const agent of agents.list()) {
        this.inc({ kind: agent.kind, condition: conditionOf(agent) })
      }
    },
  })
  new Gauge({
    name: 'howdah_agent_certificate_expiry_timestamp_seconds',
    help: 'Until when the certificate of an agent is valid, of the one whose certificate expires first; howdah agents says which',
    labelNames: ['kind'],
    registers,
    collect() {
      this.reset()
      if (!isActive()) return
      for (const kind of KINDS) {
        const expiries = agents
          .list()
          .filter((agent) => agent.kind === kind && agent.certificate !== undefined && !agent.revoked)
          .map(({ certificate }) => Date.parse(certificate?.notAfter ?? '') / 1000)
        if (expiries.length > 0) this.set({ kind }, Math.min(...expiries))
      }
    },
  })
  new Gauge({
    name: 'howdah_orphaned_sessions',
    help: 'Sessions that agents have and the store does not know: howdah agents lists them',
    registers,
    collect() {
      const orphans = agents.list().reduce((sum, { orphans = [] }) => sum + orphans.length, 0)
      this.set(isActive() ? orphans : 0)
    },
  })
  new Gauge({
    name: 'howdah_outbox_announcements',
    help: 'Announcements that are saved and that RabbitMQ has not confirmed yet',
    registers,
    collect() {
      this.set(conductor.backlog.announcements)
    },
  })
  new Gauge({
    name: 'howdah_outbox_oldest_seconds',
    help: 'How long the oldest of them has been waiting; 0: there is none',
    registers,
    collect() {
      const { announcedSince } = conductor.backlog
      this.set(announcedSince === undefined ? 0 : Math.max(0, now() - announcedSince) / 1000)
    },
  })
  new Gauge({
    name: 'howdah_step_retries_scheduled',
    help: 'Failed steps that are tried again by themselves',
    registers,
    collect() {
      this.set(conductor.backlog.retries)
    },
  })
}
