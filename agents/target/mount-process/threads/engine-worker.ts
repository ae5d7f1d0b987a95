/**
 * The engine thread as the main thread sees it: started ahead, given its orders once, called by message. It sleeps in
 * the FUSE device, so whoever sends it something may have to knock there.
 */
import { MessageChannel, Worker } from 'node:worker_threads'
import type { Logger } from 'pino'
import { HowdahError } from '../../../../messages/errors.ts'
import type { FileRange, RangeData } from '../../../dataplane/backup-source.ts'
import { programBeside } from '../../../runtime/program-beside.ts'
import { boundChangedBytes } from '../../filesystem/drivers/kernel/backing-device.ts'
import type { MountedDevice } from '../../filesystem/drivers/kernel/mount-device.ts'
import { switchFiles, writeBack } from '../../filesystem/drivers/kernel/write-through.ts'
import type { Ino } from '../../filesystem/file-system.ts'
import { cachePaths } from '../mount-spec.ts'
import type { LocalServices } from '../services/local-services.ts'
import { createSyncTimers } from '../services/sync-timers.ts'
import { type CallMessage, createCalls, crossing } from './calls.ts'
import { sharedDirectReadRing } from './direct-read-ring.ts'
import { createDirectReadRunner } from './direct-read-runner.ts'
import { type EngineCalls, type EngineSetup, type EngineThreadData, POLL_RING } from './engine-messages.ts'
import { createInterrupts } from './interrupts.ts'
import { createSender, sharedMailState } from './mailbox.ts'
import type { Serving, ServingEngine } from './serving.ts'

/** Pieces of a megabyte that the engine has not taken yet, of one `readMany`. */
const PIECES_UNDER_WAY = 8
const END_DEADLINE_MS = 2000
/** Between two looks at what the kernel may accept. Milliseconds. */
const LOOK_AT_BOUND_MS = 5000

export interface EngineWorker {
  /** Has the thread serve a mount; to be called once. The tree is the thread's from then on. */
  serve(serving: Serving, mount: MountedDevice, logger: Logger): ServingEngine
  /** Ends the thread; false when it does not, within two seconds, because it sleeps in a system call. */
  end(): Promise<boolean>
}

/** Starts a thread that loads the engine and waits. It keeps no process alive that has nothing else to do. */
export function startEngineWorker(): EngineWorker {
  const mailState = sharedMailState()
  const ring = sharedDirectReadRing()
  const { port1: port, port2 } = new MessageChannel()
  const worker = new Worker(programBeside(import.meta.url, 'engine-thread'), {
    workerData: { port: port2, mailState, directReads: ring } satisfies EngineThreadData,
    transferList: [port2],
    name: 'engine',
  })
  worker.unref()
  let crash: Error | undefined
  let exited = false
  worker.on('error', (error) => {
    crash = error
  })
  worker.once('exit', () => {
    exited = true
  })

  function serve(
    { spec, tree, journalState, fetched, services }: Serving,
    mount: MountedDevice,
    logger: Logger,
  ) {
    worker.ref()
    let switching: Promise<void> = Promise.resolve()
    const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
    const calls = createCalls<EngineCalls>(
      {
        ...services,
        readMany: (stream: number, ranges: readonly FileRange[]) =>
          services.readMany(
            ranges,
            bounded((piece) => calls.call('piece', stream, piece.file, piece.offset, piece.data)),
          ),
        changed: () => timers.changed(),
        fetched: () => timers.fetched(),
        nearFull(turn: number, nearFull: boolean, files: Ino[]) {
          switching = switching
            .then(() => switchFiles(mount.fd, files, nearFull, logger))
            .then(() => (nearFull ? calls.call('handedOver', turn) : undefined))
            // A mount that ended meanwhile needs it no more.
            .catch((err: unknown) => logger.debug({ err }, 'the kernel was not switched'))
        },
        retryInterrupt: (low: number, high: number) => interrupts.retryLater(low, high),
        writeBack: (ino: Ino) => writeBack(mount.fd, ino, logger),
        unmounted: () => resolve(),
      },
      createSender(port, mailState, () => mount.wakeServer()),
    )
    const timers = createSyncTimers({
      syncChanged: () => calls.call('syncChanged'),
      flushFetched: () => calls.call('flushFetched'),
      logger,
    })
    const interrupts = createInterrupts(mount.fd, logger)
    let marginBytes = margin(mount.device, logger)
    const looking = setInterval(() => {
      const now = margin(mount.device, logger)
      if (now === marginBytes) return
      logger.warn({ marginBytes: now }, 'what the kernel may hold of this mount has changed')
      marginBytes = now
      tell(calls.call('margin', now))
    }, LOOK_AT_BOUND_MS)
    looking.unref()
    const directReads = createDirectReadRunner({
      ring,
      device: mount.fd,
      read: services.read,
      wakeEngine: () => tell(calls.call('directReadDone')),
      onFailure: (slot, error) => tell(calls.call('directReadFailed', slot, crossing(error))),
      onFetched: () => timers.fetched(),
      logger,
    })
    const gone = () => {
      clearInterval(looking)
      interrupts.stop()
      directReads.stop()
      const reason = new HowdahError('mount_failed', 'the engine thread ended', { cause: crash })
      calls.end(reason)
      reject(reason)
    }
    worker.once('exit', gone)
    if (exited) gone()
    port.on('message', (message: CallMessage | typeof POLL_RING) => {
      if (message === POLL_RING) directReads.look()
      else calls.receive(message)
    })
    const { columns, transfer } = tree.transfer()
    const orders: EngineSetup = {
      fd: mount.fd,
      session: spec.session,
      cachePath: spec.cachePath,
      columns,
      journalState,
      fetched,
      owner: spec.owner,
      limits: { quotaBytes: spec.quotaBytes, reserveBytes: spec.reserveBytes, marginBytes },
      log: { level: logger.level, file: cachePaths(spec.cachePath).log },
    }
    worker.postMessage(orders, transfer)

    return {
      ended,
      statistics: () => calls.call('statistics'),
      limit: (quotaBytes) => calls.call('limit', quotaBytes),
      flush: () => calls.call('flush'),
      prefetch: (record) => calls.call('prefetch', record),
      noteDamaged: (file, block) => calls.call('noteDamaged', file, block),
      starting: () => calls.call('starting'),
      settled: () => calls.call('settled'),
      unmount: () => mount.unmount(),
      async close() {
        clearInterval(looking)
        interrupts.stop()
        directReads.stop()
        await switching
        await timers.stop()
        await calls.call('close')
        worker.off('exit', gone)
        await worker.terminate()
        port.close()
        mount.close()
      },
    } satisfies ServingEngine
  }

  return {
    serve,
    end: async () => {
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<boolean>((resolve) => {
        timer = setTimeout(() => resolve(false), END_DEADLINE_MS)
      })
      return Promise.race([worker.terminate().then(() => true), late]).finally(() => clearTimeout(timer))
    },
  }
}

/**
 * The room with which a write cache is near full: what the kernel may have accepted, twice, for a page of 4 KiB may
 * change a block of 8 KiB; and what it goes over its bound (with 60 writers of a stopped server by less than 16 MiB).
 */
function margin(device: string, logger: Logger): number {
  return 2 * boundChangedBytes(device, logger) + 32 * 1024 * 1024
}

/** Without an engine there is nobody to tell. */
function tell(call: Promise<void>): void {
  call.catch(() => undefined)
}

/** Resolves at once until so many are under way; each tells by its end that it was taken. */
function bounded(send: (piece: RangeData) => Promise<void>): Parameters<LocalServices['readMany']>[1] {
  const underWay = new Set<Promise<void>>()
  return async (piece) => {
    const sent = send(piece).finally(() => underWay.delete(sent))
    underWay.add(sent)
    tell(sent)
    if (underWay.size >= PIECES_UNDER_WAY) await Promise.race(underWay)
  }
}
