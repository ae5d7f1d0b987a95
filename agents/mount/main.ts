/**
 * The mount agent's process: serves backups from the machine where their repository is. Composes the parts, and is the
 * only file of the folder that reads configuration.
 *
 * The agent owns its state and spool directories; repositories are only read. The step `resolve` passes through
 * resolve.ts, recovery/ (which backup, and whether the WAL archive suffices), formats/ (opening it) and back with a
 * signed ticket. A read of the data plane comes with that ticket through served-repositories.ts to the opened backup,
 * then to formats/ (where the bytes are stored), spool/ and decode/ (plain bytes), and pages/ (damaged blocks).
 */
import path from 'node:path'
import { withoutCredentials } from '../../config/logger.ts'
import { brokerMetrics } from '../../config/monitoring/broker-metrics.ts'
import { certificateMetrics, diskMetrics } from '../../config/monitoring/file-metrics.ts'
import { runRole, START_WAIT_MS } from '../../config/role.ts'
import { mountAgentSchema } from '../../config/schema.ts'
import { brokerAccess, readTls } from '../../config/tls.ts'
import { version } from '../../config/version.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import { loadTicketKey, signTicket, type Ticket } from '../dataplane/protocol/ticket.ts'
import { createDataPlaneServer } from '../dataplane/server/server.ts'
import { type RunningAgent, runAgent } from '../runtime/agent.ts'
import { checkAgent } from '../runtime/agent-checks.ts'
import { openJournal } from '../runtime/journal.ts'
import { keepCertificate } from '../runtime/own-certificate.ts'
import { stepMetrics } from '../runtime/step-metrics.ts'
import { createGoneReports } from './expired-backup.ts'
import { openRepository } from './formats/open-repository.ts'
import { createHeldBackups } from './held-backups.ts'
import { learnRevocations } from './learn-revocations.ts'
import { mountMetrics, servedLatencies } from './metrics.ts'
import { createDamageReports } from './pages/damage-reports.ts'
import { createArchiveKnowledge } from './recovery/instance-archive.ts'
import { checkBackup, resolveStep } from './resolve.ts'
import { serveRepositories } from './served-repositories.ts'
import { createSpool } from './spool/spool.ts'

await runRole({
  role: 'mount-agent',
  summary: 'serves backups to target servers, from the machine where their repository is',
  schema: mountAgentSchema,
  async start(config, logger, monitor) {
    const { name, stateDirectory, spool: spoolConfig, dataPlane, broker, tls } = config
    // First of all: what follows may belong to another agent that has this directory.
    const journal = openJournal(path.join(stateDirectory, 'journal.sqlite'))
    const spoolDirectory = spoolConfig.directory ?? path.join(stateDirectory, 'spool')
    const spool = await createSpool({
      directory: spoolDirectory,
      maxBytes: spoolConfig.maxBytes,
      logger,
    })
    const address = { kind: 'mount', name } as const
    const bus = await connectBus({
      ...brokerAccess(broker),
      appId: `howdah-mount-${name}`,
      ...{ name: `howdah mount ${name}`, version: version() },
      role: 'agent',
      logger,
      waitMs: START_WAIT_MS,
      observer: brokerMetrics(monitor.registry),
    })
    let agent: RunningAgent | undefined
    checkAgent(monitor, { bus, agent: () => agent })
    const knowledge = createArchiveKnowledge()
    const repositories = serveRepositories(
      name,
      config.repositories.map((options) => ({
        options,
        repository: openRepository(options, { spool, logger }),
      })),
      knowledge,
      createDamageReports((damage) => bus.report(address, 'repository.damage', damage), logger),
    )
    const held = createHeldBackups()
    const ticketKey = await loadTicketKey(path.join(stateDirectory, 'ticket.key'))
    const reportGone = createGoneReports(
      (session, message) => bus.report(address, 'session.findings', { session, warnings: [message] }),
      logger,
    )
    const served = servedLatencies()
    const known = await learnRevocations(address, bus, logger)
    const server = await createDataPlaneServer({
      host: dataPlane.host,
      port: dataPlane.port,
      tls: readTls(tls, 'tls'),
      ticketKey,
      revocations: known.revocations,
      openBackup: async (ticket) => held.take(ticket) ?? repositories.reopen(ticket),
      onError: ({ session }, error) => reportGone(session, error),
      observer: served,
      logger,
    })
    const certificate = await keepCertificate({
      ...{ address, files: tls, bus, logger },
      onChange: () => server.renew(readTls(tls, 'tls')),
    })
    const advertised = { host: dataPlane.advertise, port: server.address.port }
    mountMetrics({ registry: monitor.registry, served, server, spool, spoolBytes: spoolConfig.maxBytes })
    diskMetrics(monitor.registry, { spool: spoolDirectory, state: stateDirectory })
    certificateMetrics(monitor.registry, {
      agent: tls.certificate,
      authority: tls.ca,
      broker: broker.certificate,
    })
    const resolving = {
      repositories,
      knowledge,
      dataPlane: { mountAgent: name, ...advertised },
      sign: (ticket: Ticket) => signTicket(ticket, ticketKey),
      now: Date.now,
    }
    agent = await runAgent({
      address,
      bus,
      journal,
      steps: {
        resolve: resolveStep(resolving, held),
      },
      describe: () => ({
        repositories: [...repositories.names],
        dataPlane: advertised,
        certificate: certificate.view,
        revocations: known.version,
      }),
      onRevocations(list) {
        known.add(list)
        server.revoke(known.revocations)
      },
      queries: {
        'repository.list': async (filter) => ({
          accepted: true,
          repositories: await repositories.inventory(filter),
        }),
        'backup.check': ({ input }) => checkBackup(resolving, input),
      },
      heartbeatMs: config.heartbeat.interval * 1000,
      onStep: stepMetrics(monitor.registry, () => agent),
      logger,
    })
    return {
      ready: {
        role: 'mount-agent',
        name,
        dataPlane: server.address,
        broker: withoutCredentials(broker.urls),
      },
      async close() {
        certificate.close()
        await agent?.close()
        await bus.close()
        await server.close()
        held.close()
        await spool.close()
      },
    }
  },
})
