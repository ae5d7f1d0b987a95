/** The coordinator's process: assembles the parts and shuts them down in order. */
import { randomInt } from 'node:crypto'
import { hostname } from 'node:os'
import path from 'node:path'
import { withoutCredentials } from '../config/logger.ts'
import { brokerMetrics } from '../config/monitoring/broker-metrics.ts'
import { certificateMetrics, diskMetrics } from '../config/monitoring/file-metrics.ts'
import { runRole, START_WAIT_MS } from '../config/role.ts'
import { coordinatorSchema } from '../config/schema.ts'
import { brokerAccess } from '../config/tls.ts'
import { version } from '../config/version.ts'
import { connectBus } from '../messages/amqp-bus.ts'
import { createAuditLog } from '../messages/audit-log.ts'
import { openAgentRegistry } from './agent-registry.ts'
import { createAuditTrail } from './audit-trail.ts'
import { createConductor } from './conductor.ts'
import { openEnrolments } from './enrolments.ts'
import { openAuthority } from './fleet/authority/authority.ts'
import { agentUsersOf } from './fleet/broker-users/agent-users.ts'
import { createIntake } from './intake.ts'
import { type Leadership, openLeadership } from './leadership.ts'
import { checkCoordinator } from './metrics/coordinator-checks.ts'
import { coordinatorMetrics } from './metrics/coordinator-metrics.ts'
import { sessionMetrics } from './metrics/session-metrics.ts'
import { sessionId } from './session-id.ts'
import { openPostgresStore } from './store/postgres.ts'
import { openSqliteStore } from './store/sqlite.ts'

/** How long answers and settled sessions are kept. */
const KEEP_DAYS = 30
const DAY_MS = 86_400_000
/** RabbitMQ takes a coordinator for gone after three times as long, and another one takes over. */
const HEARTBEAT_SECONDS = 5

await runRole({
  role: 'coordinator',
  summary: 'takes commands, drives the agents, keeps the sessions',
  schema: coordinatorSchema,
  async start(config, logger, monitor) {
    const { store: storeConfig, retry, resume, heartbeat, broker, authority } = config
    const now = Date.now
    const store = storeConfig.url
      ? await openPostgresStore(storeConfig.url, logger, { waitMs: START_WAIT_MS })
      : await openSqliteStore(storeConfig.path)
    const shownAs = {
      ...{ appId: 'howdah-coordinator', name: `howdah coordinator ${hostname()}` },
      version: version(),
    }
    const access = brokerAccess(broker)
    const bus = await connectBus({
      ...access,
      ...shownAs,
      role: 'coordinator',
      heartbeatSeconds: HEARTBEAT_SECONDS,
      logger,
      waitMs: START_WAIT_MS,
      observer: brokerMetrics(monitor.registry),
    })
    let leadership: Leadership | undefined
    const signer = authority.directory === null ? undefined : await openAuthority(authority.directory)
    const enrolments = await openEnrolments({
      store,
      authority: signer,
      users: agentUsersOf(broker),
      lifetimeMs: authority.days * DAY_MS,
      logger,
      now,
    })
    const registry = await openAgentRegistry({
      store,
      lostAfterMs: heartbeat.lostAfter * 1000,
      listeningSince: () => leadership?.since,
      now,
      isRevoked: enrolments.isRevoked,
    })
    const conductor = createConductor({
      store,
      bus,
      registry,
      enrolments,
      logger,
      now,
      random: Math.random,
      retry: {
        attempts: retry.attempts,
        firstDelayMs: retry.firstDelay * 1000,
        maxDelayMs: retry.maxDelay * 1000,
        resume,
      },
      observe: sessionMetrics(monitor.registry),
    })
    coordinatorMetrics({
      ...{ registry: monitor.registry, store, bus, agents: registry, conductor, now },
      leadership: () => leadership,
    })
    certificateMetrics(monitor.registry, {
      broker: broker.certificate,
      authority: authority.directory === null ? null : path.join(authority.directory, 'ca.pem'),
    })
    diskMetrics(monitor.registry, storeConfig.url === null ? { store: path.dirname(storeConfig.path) } : {})
    checkCoordinator(monitor, { bus, store, leadership: () => leadership })
    const intake = createIntake({
      store,
      bus,
      registry,
      conductor,
      enrolments,
      logger,
      now,
      newSessionId: (instance) => sessionId(instance, randomInt),
    })
    const prune = (): void => {
      store
        .prune(new Date(now() - KEEP_DAYS * DAY_MS))
        .then(({ lostAuditEntries: entries }) => {
          if (entries > 0)
            logger.error({ entries }, `entries waited ${KEEP_DAYS} days for the audit stream, and are lost`)
        })
        .catch((error: unknown) => logger.warn({ err: error }, 'pruning the store failed'))
    }
    const warnOfAuthority = (): void => {
      const warning = signer?.warning()
      if (warning !== undefined) logger.warn(warning)
    }
    const everyDay = (): void => {
      prune()
      warnOfAuthority()
    }
    everyDay()
    const daily = setInterval(everyDay, DAY_MS)
    const audit = createAuditTrail({ store, log: createAuditLog({ ...access, ...shownAs, logger }), logger })
    leadership = await openLeadership({ bus, store, registry, enrolments, conductor, intake, audit, logger })
    return {
      ready: { role: 'coordinator', broker: withoutCredentials(broker.urls) },
      async close() {
        clearInterval(daily)
        // While the broker is away nothing can be sent: what waits for it is abandoned, and the next start sends it.
        if (bus.connectedSince === undefined) await bus.close()
        await leadership?.close()
        await conductor.close()
        await audit.close()
        await bus.close()
        await store.close()
      },
    }
  },
})
