/** An engine in the main thread, for fuse-native, a driver that needs the event loop. */
import type { Logger } from 'pino'
import { createEngine } from '../../filesystem/engine.ts'
import type { Driver } from '../../filesystem/file-system.ts'
import { CHANGED_AFTER_MS, createSyncTimers } from '../services/sync-timers.ts'
import type { Serving, ServingEngine } from './serving.ts'

/** Mounts and serves. @throws HowdahError what the driver throws */
export async function serveInMainThread(
  serving: Serving,
  driver: Driver,
  logger: Logger,
): Promise<ServingEngine> {
  const { spec, tree, journalState, fetched, services, measurements } = serving
  const engine = createEngine({
    tree,
    cachePath: spec.cachePath,
    journalState,
    fetched,
    services,
    owner: spec.owner,
    limits: { quotaBytes: spec.quotaBytes, shareBytes: spec.shareBytes, reserveBytes: spec.reserveBytes },
    logger,
  })
  const mounted = await driver.mount(spec.mountPoint, engine, {
    ...spec.owner,
    allowOther: spec.allowOther,
    source: `howdah:${spec.session}`,
    observe: measurements.fuse.observe,
  })
  const timers = createSyncTimers({
    syncChanged: () => engine.syncChanged(),
    flushFetched: () => engine.flushFetched(),
    logger,
  })
  // The driver does not report when it is idle, so poll.
  const polling = setInterval(() => {
    if (engine.unsynced) timers.changed()
    if (engine.unflushed) timers.fetched()
  }, CHANGED_AFTER_MS / 4)
  polling.unref()

  return {
    ended: mounted.ended,
    statistics: async () => engine.statistics(),
    usage: async () => engine.usage(),
    limit: async (quotas) => engine.limit(quotas),
    flush: () => engine.flush(),
    prefetch: (record) => engine.prefetch(record),
    noteDamaged: async (file, block) => engine.noteDamaged(file, block),
    starting: async () => engine.starting(),
    settled: async () => engine.settled(),
    unmount: () => mounted.unmount(),
    async close() {
      clearInterval(polling)
      await timers.stop()
      await engine.close()
    },
  }
}
