/**
 * The main sequence of a mount process: open the backup's tree and the write cache, mount, answer the control socket,
 * unmount and close. It must never touch its own mount: it would wait for itself.
 */
import { createWriteStream } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { identify } from '../../../../config/process-identity.ts'
import type { EngineStatistics } from '../../filesystem/engine.ts'
import { keepFromAgeing } from '../../room/ageing-lock.ts'
import { abortMount } from '../agent/dead-mount.ts'
import { type ControlRequest, listenForControl, type MountStatus } from '../control-socket.ts'
import type { Measurements } from '../measurements.ts'
import type { MountSource } from '../mount-source.ts'
import { cachePaths, type MountSpec } from '../mount-spec.ts'
import { syncKernel } from '../services/sync-kernel.ts'
import { beginMount, type MountProgram } from '../threads/serve-mount.ts'
import type { ServingEngine } from '../threads/serving.ts'
import { type OpenSession, openSession } from './open-session.ts'
import { openTree, prepareDirectories } from './prepare.ts'

export interface RunMountDependencies {
  readonly program: MountProgram
  readonly source: MountSource
  readonly measurements: Measurements
  readonly logger: Logger
}

/** How long a status request waits for a busy engine before it returns the last known statistics. Milliseconds. */
const STATUS_WAIT_MS = 500

/**
 * Mounts and serves until it is stopped or unmounted. When it rejects, nothing is mounted any longer.
 * @throws HowdahError `mount_failed` and what the source and the driver throw
 */
export async function runMountProcess(spec: MountSpec, dependencies: RunMountDependencies): Promise<void> {
  const { program, source, measurements, logger } = dependencies
  const { mountPoint, cachePath } = spec
  const paths = cachePaths(cachePath)
  prepareDirectories(spec)
  await writeFile(paths.identity, JSON.stringify(identify(process.pid)), { mode: 0o600 })
  const { tree, saved } = await openTree(spec, source, logger)
  const files = tree.count
  const mounting = beginMount(spec, program, logger)
  let session: OpenSession
  try {
    session = await openSession(spec, tree, source, measurements, logger)
    const engine = await mounting.serve(session.serving)
    source.onDamagedBlock?.((file, block) => {
      // Fails only when the engine has ended.
      engine.noteDamaged(file, block).catch(() => undefined)
    })
    await saved
    const server = await listenForControl(
      paths.socket,
      answers({ spec, session, source, measurements, engine }),
    )
    const terminate = () => {
      logger.info('received a signal to stop')
      unmountOrAbort(spec, engine, logger)
    }
    process.once('SIGTERM', terminate)
    process.once('SIGINT', terminate)
    signalReady()
    keepFromAgeing(cachePath)
    logger.info({ mountPoint, files, sinceStartMs: Math.round(performance.now()) }, 'mounted')
    prefetch(session, engine, logger)
    // A failure is reported to the request that needs the segment.
    if (spec.firstWal) session.serving.services.walSize(spec.firstWal).catch(() => undefined)
    await engine.ended
    server.close()
    await engine.close()
  } catch (error) {
    await mounting.settled()
    abortMount(mountPoint)
    throw error
  }
  await session.serving.services.clearWal()
  session.close()
  await source.close()
  await rm(paths.identity, { force: true })
  logger.info('unmounted, and the write cache is closed')
}

interface Answering {
  readonly spec: MountSpec
  readonly session: OpenSession
  readonly source: MountSource
  readonly measurements: Measurements
  readonly engine: ServingEngine
}

/** The handler of control requests. */
function answers({ spec, session, source, measurements, engine }: Answering) {
  const statistics = orLastKnown(() => engine.statistics())

  async function status(): Promise<MountStatus> {
    const { fetchedStoreBytes, lastError, ...current } = await statistics()
    return {
      ...current,
      connected: source.connected,
      ...(source.lostAt !== undefined && { lostAt: new Date(source.lostAt).toISOString() }),
      failedReads: session.failedReads.count,
      failedReadsEver: session.failedReads.total,
      fetchesInFlight: source.inFlight ?? 0,
      lastError: source.lastError ?? lastError,
    }
  }

  async function sync(): Promise<void> {
    await syncKernel(spec.mountPoint)
    await engine.flush()
  }

  return async (request: ControlRequest): Promise<unknown> => {
    switch (request.request) {
      case 'usage':
        return engine.usage()
      case 'limits':
        return engine.limit({
          quotaBytes: request.quotaBytes ?? undefined,
          shareBytes: request.shareBytes ?? undefined,
        })
      case 'status':
        return status()
      case 'measurements':
        return measurements.snapshot()
      case 'sync':
        await sync()
        return {}
      case 'starting':
        await engine.starting()
        return {}
      case 'settled': {
        await session.serving.services.clearWal()
        const record = await engine.settled()
        if (record !== undefined) await session.keepTouched(record)
        return {}
      }
      case 'verify':
        return session.verify()
      case 'unmount':
        // The slow part is done while the mount still serves.
        await engine.flush()
        await engine.unmount()
        return {}
      default:
        return request satisfies never
    }
  }
}

/** Returns the last known statistics when the engine is busy for too long. */
function orLastKnown(ask: () => Promise<EngineStatistics>): () => Promise<EngineStatistics> {
  let last: EngineStatistics | undefined
  let asked: Promise<EngineStatistics> | undefined
  return async () => {
    asked ??= ask().finally(() => {
      asked = undefined
    })
    const answer = asked.then((statistics) => {
      last = statistics
      return statistics
    })
    if (last === undefined) return answer
    const known = last
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<EngineStatistics>((resolve) => {
      timer = setTimeout(() => resolve(known), STATUS_WAIT_MS)
    })
    return Promise.race([answer, late]).finally(() => clearTimeout(timer))
  }
}

function prefetch(session: OpenSession, engine: ServingEngine, logger: Logger): void {
  session
    .touched()
    .then(async (record) => record && engine.prefetch(record))
    // Blocks that were not prefetched are fetched when they are read.
    .catch((err: unknown) => logger.warn({ err }, 'no blocks were prefetched'))
}

/** Unmounts, forcibly when files are open: their users lose them with this process anyway. What they wrote is kept. */
function unmountOrAbort({ mountPoint }: MountSpec, engine: ServingEngine, logger: Logger): void {
  engine
    .unmount()
    .catch(async () => {
      await syncKernel(mountPoint)
      await engine.flush()
      abortMount(mountPoint)
    })
    .catch((err: unknown) => {
      logger.error({ err }, 'the mount could not be unmounted cleanly')
      abortMount(mountPoint)
    })
}

/** Reports readiness on the descriptor that the agent waits for, if there is one. */
function signalReady(): void {
  const fd = process.env.HOWDAH_READY_FD
  if (fd === undefined) return
  const ready = createWriteStream('', { fd: Number(fd) })
  ready.on('error', () => undefined)
  ready.end('ready\n')
}
