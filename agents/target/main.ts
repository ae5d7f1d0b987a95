/**
 * The target agent's process: mounts backups on this machine and runs PostgreSQL on them. Reads the configuration, builds
 * the parts and connects them to the message bus; decides nothing itself, and never touches a mount.
 *
 * A step command passes from agents/runtime to steps.ts and from there to one file in steps/. A query goes by
 * queries.ts to check.ts, doctor/ or changes/. Events come from session/session-watch.ts.
 */
import { accessSync, constants, mkdirSync } from 'node:fs'
import path from 'node:path'
import { ConfigurationError } from '../../config/configuration-error.ts'
import { withoutCredentials } from '../../config/logger.ts'
import { brokerMetrics } from '../../config/monitoring/broker-metrics.ts'
import { certificateMetrics, diskMetrics } from '../../config/monitoring/file-metrics.ts'
import { runRole, START_WAIT_MS } from '../../config/role.ts'
import { targetAgentSchema } from '../../config/schema.ts'
import { brokerAccess, readTls } from '../../config/tls.ts'
import { version } from '../../config/version.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import { LASTING_MS } from '../../messages/topology.ts'
import { type RunningAgent, runAgent } from '../runtime/agent.ts'
import { checkAgent } from '../runtime/agent-checks.ts'
import { openJournal } from '../runtime/journal.ts'
import { keepCertificate } from '../runtime/own-certificate.ts'
import { stepMetrics } from '../runtime/step-metrics.ts'
import { listedChanges } from './changes/detection.ts'
import { createChangesReport } from './changes/report.ts'
import { createSessionChanges } from './changes/session-changes.ts'
import { fetchedBytesOnDisk } from './filesystem/fetched/fetched-stores.ts'
import { isolationWarnings } from './isolation/isolation.ts'
import { guardNetworkRules } from './isolation/network-guard.ts'
import { probeIsolation } from './isolation/probe.ts'
import { probeMountName, probeName, removeStaleProbes } from './isolation/stale-probes.ts'
import { createMountSampler } from './metrics/mount-sampler.ts'
import { targetMetrics } from './metrics/target-metrics.ts'
import { keepSpare } from './mount-process/agent/launch.ts'
import { mountProcessesOf } from './mount-process/agent/mount-process.ts'
import { installedVersions } from './preflight/binaries.ts'
import { kernelFindings, lookUpKernel } from './preflight/kernel.ts'
import type { PreflightSettings } from './preflight/settings.ts'
import { ownName } from './preflight/user.ts'
import { targetQueries } from './queries.ts'
import { createAgeingLock } from './room/ageing-lock.ts'
import { type CacheShares, createCacheShares } from './room/cache-shares.ts'
import { fetchedDirectory } from './room/fetched-budget.ts'
import {
  type PublishedSession,
  presentSessions,
  readSession,
  readSessions,
} from './session/published-session.ts'
import { createSessionWatch } from './session/session-watch.ts'
import { targetSteps } from './steps.ts'
import { createSurveyReport } from './survey/report.ts'
import { isTrial, removeStaleTrials } from './trial-mount/trial-mount.ts'

/** Interval between checks that the network rules of all sessions exist, ms. */
const NETWORK_CHECK_MS = 10_000

await runRole({
  role: 'target-agent',
  summary: 'mounts backups on this server and runs PostgreSQL on them',
  schema: targetAgentSchema,
  async start(config, logger, monitor) {
    const { name, stateDirectory, mountRoot, cacheRoot, postgres, cache, tls, broker } = config
    // Mount processes read these files; validated here so that an error shows now and not at the first mount.
    readTls(tls, 'tls')
    makeStateDirectory(stateDirectory)
    // First of all: what follows may belong to another agent that has this directory.
    const journal = openJournal(path.join(stateDirectory, 'journal.sqlite'))
    const address = { kind: 'target', name } as const
    const bus = await connectBus({
      ...brokerAccess(broker),
      appId: `howdah-target-${name}`,
      ...{ name: `howdah target ${name}`, version: version() },
      role: 'agent',
      logger,
      waitMs: START_WAIT_MS,
      observer: brokerMetrics(monitor.registry),
    })
    let agent: RunningAgent | undefined
    checkAgent(monitor, { bus, agent: () => agent })
    const changes = createSessionChanges()
    const changesReport = createChangesReport({
      changes,
      report: (session, found) =>
        bus.report(address, 'session.changes', { session, changes: listedChanges(found) }),
      logger,
    })
    const surveyReport = createSurveyReport({
      report: (session, warnings) => bus.report(address, 'session.findings', { session, warnings }),
      logger,
    })
    const room = createCacheShares({
      quotaBytes: cache.quotaBytes,
      limitBytes: config.limits.cacheBytes,
      logger,
    })
    const watch = createSessionWatch({
      lost: (event) =>
        bus.report(address, 'session.lost', { ...event, afterStep: journal.lastEnded(event.session) }),
      usage: (session, usage, lasts) =>
        bus.report(address, 'session.usage', { session, usage }, lasts ? { expiresMs: LASTING_MS } : {}),
      reachability: (session, reachability) =>
        bus.report(address, 'session.reachability', { session, ...reachability }),
      changes: (session) => {
        changesReport.look(session)
        surveyReport.look(session)
      },
      logger,
    })
    // Without somebody to ask for metrics no mount process is asked either.
    const sampler =
      config.metrics.listen === null ? undefined : createMountSampler({ mounts: watch.mounts, logger })
    if (sampler) {
      targetMetrics({
        registry: monitor.registry,
        sampler,
        watch,
        fetchedBytes: async () => fetchedBytesOnDisk(fetchedDirectory(cacheRoot)),
        limits: { ...config.limits, fetchedBytes: cache.fetchedBytes },
      })
    }
    diskMetrics(monitor.registry, { cache: cacheRoot, state: stateDirectory })
    certificateMetrics(monitor.registry, {
      agent: tls.certificate,
      authority: tls.ca,
      broker: broker.certificate,
    })
    const spare = keepSpare({ errors: path.join(stateDirectory, 'mount-processes.log') })
    const postgresVersions = await installedVersions(postgres.binaryDirectories)
    const ageingLock = createAgeingLock(cacheRoot)
    ageingLock.take()
    await removeStaleTrials({ mountRoot, cacheRoot })
    await removeStaleProbes(stateDirectory)
    const kernel = await lookUpKernel(stateDirectory, probeMountName(process.pid))
    for (const { message } of kernelFindings(kernel)) logger.warn(message)
    const support = await probeIsolation({
      name: probeName(process.pid),
      directory: stateDirectory,
      fileSystem: config.isolation.fileSystem,
      network: config.isolation.network,
    })
    for (const warning of isolationWarnings(support)) logger.warn(warning)
    const isolation = { support, readable: config.isolation.readable, writable: config.isolation.writable }
    const kept = await readSessions(cacheRoot)
    countCaches(kept, room)
    const ports = new Map(kept.map(({ session, port }) => [session, port]))
    const settings: PreflightSettings = {
      mountRoot,
      cacheRoot,
      defaultUser: postgres.user,
      allow: config.allow,
      portRange: [postgres.firstPort, postgres.lastPort],
      binaryDirectories: postgres.binaryDirectories,
      reserveBytes: cache.reserveBytes,
      minimumFreeBytes: cache.minimumFreeBytes,
    }
    const steps = targetSteps({
      settings,
      tls: { ca: tls.ca, cert: tls.certificate, key: tls.key },
      room,
      fetchedBytes: cache.fetchedBytes,
      isolation,
      readDeadlineMs: config.readDeadline * 1000,
      watch,
      changes,
      credentials: config.credentials,
      spare,
      ageingLock,
      ports,
      logger,
    })
    const certificate = await keepCertificate({ address, files: tls, bus, logger })
    agent = await runAgent({
      address,
      bus,
      journal,
      steps,
      queries: targetQueries({
        ...{ cacheRoot, settings, ports, support, kernel, changes, journal, logger },
        fetchedDirectory: fetchedDirectory(cacheRoot),
      }),
      sessions: () => presentSessions(cacheRoot, isNoSession),
      describe: () => ({ postgresVersions, limits: config.limits, certificate: certificate.view }),
      heartbeatMs: config.heartbeat.interval * 1000,
      onStep: stepMetrics(monitor.registry, () => agent),
      logger,
    })
    for (const session of kept) {
      if (!session.kept) await watch.add(session)
    }
    const guard = guardNetworkRules({
      sessions: () => [...ports.keys()].flatMap((id) => readSession(path.join(cacheRoot, id)) ?? []),
      everyMs: NETWORK_CHECK_MS,
      logger,
    })
    return {
      ready: { role: 'target-agent', name, mountRoot, cacheRoot, broker: withoutCredentials(broker.urls) },
      async close() {
        guard.close()
        certificate.close()
        room.close()
        sampler?.close()
        watch.close()
        surveyReport.close()
        spare.close()
        ageingLock.close()
        await agent?.close()
        await bus.close()
      },
    }
  },
})

/** Directories below the root of the write caches that belong to no session. */
function isNoSession(name: string): boolean {
  return name === path.basename(fetchedDirectory('')) || isTrial(name)
}

/** Makes the caches of earlier sessions known, before a new one is given room: some have a mount process. */
function countCaches(sessions: readonly PublishedSession[], room: CacheShares): void {
  for (const session of sessions) {
    const [mount] = session.kept ? [] : mountProcessesOf(session)
    if (mount) room.attach(session.session, mount)
    else void room.addIdle(session.session, session.cachePath)
  }
}

/** @throws ConfigurationError that says what to do */
function makeStateDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    accessSync(directory, constants.W_OK | constants.X_OK)
  } catch (error) {
    const user = ownName()
    throw new ConfigurationError(
      `stateDirectory: ${directory} cannot be used by the user "${user}" (${(error as Error).message}). Create it: install -d -o ${user} -m 0700 ${directory}.`,
    )
  }
}
