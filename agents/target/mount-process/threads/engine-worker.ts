/**
 * The main thread's side of the engine thread: started in advance, set up once, called by messages. It sleeps in the FUSE
 * device, so sending it a message may require waking it by a notification.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import type { Logger } from 'pino'
import { programBeside } from '../../../../config/program-beside.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import type { FileRange, RangeData } from '../../../dataplane/backup-source.ts'
import { boundChangedBytes } from '../../filesystem/drivers/kernel/backing-device.ts'
import type { MountedDevice } from '../../filesystem/drivers/kernel/mount-device.ts'
import { switchFiles, writeBack } from '../../filesystem/drivers/kernel/write-through.ts'
import type { Ino } from '../../filesystem/file-system.ts'
import { cachePaths } from '../mount-spec.ts'
import type { LocalServices } from '../services/local-services.ts'
import { createSyncTimers } from '../services/sync-timers.ts'
import { type CallMessage, type Calls, createCalls, crossing } from './calls.ts'
import { type DirectReadRing, sharedDirectReadRing } from './direct-read-ring.ts'
import { createDirectReadRunner } from './direct-read-runner.ts'
import { type EngineCalls, type EngineSetup, type EngineThreadData, POLL_RING } from './engine-messages.ts'
import { createInterrupts } from './interrupts.ts'
import { createSender, sharedMailState } from './mailbox.ts'
import type { Serving, ServingEngine } from './serving.ts'

/** Pieces of a megabyte of one `readMany` that the engine has not processed yet. */
const PIECES_IN_FLIGHT = 8
const END_DEADLINE_MS = 2000
/** Interval of checking how much the kernel may accept. Milliseconds. */
const CHECK_BOUND_MS = 5000

export interface EngineWorker {
  /** Makes the thread serve a mount; to be called once. The tree is transferred to the thread. */
  serve(serving: Serving, mount: MountedDevice, logger: Logger): ServingEngine
  /** Ends the thread; false when it does not end within two seconds because it sleeps in a system call. */
  end(): Promise<boolean>
}

/** The started thread, and what both threads share. */
interface EngineThread {
  readonly worker: Worker
  readonly port: MessagePort
  readonly mailState: Int32Array<SharedArrayBuffer>
  readonly ring: DirectReadRing
  /** Calls `onExit` when the thread ends, or at once when it has ended, with the error that ended it, if there was one. */
  watch(onExit: (error: Error | undefined) => void): { stop(): void }
}

/** Starts a thread that loads the engine and waits. It does not keep the process alive until it serves. */
export function startEngineWorker(): EngineWorker {
  const thread = startThread()
  const { worker } = thread
  return {
    serve: (serving, mount, logger) => serveMount(thread, serving, mount, logger),
    end: async () => {
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<boolean>((resolve) => {
        timer = setTimeout(() => resolve(false), END_DEADLINE_MS)
      })
      return Promise.race([worker.terminate().then(() => true), late]).finally(() => clearTimeout(timer))
    },
  }
}

function startThread(): EngineThread {
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
  return {
    worker,
    port,
    mailState,
    ring,
    watch(onExit) {
      const ended = () => onExit(crash)
      if (exited) ended()
      else worker.once('exit', ended)
      return { stop: () => worker.off('exit', ended) }
    },
  }
}

/** As `EngineWorker.serve`: connects the thread with the services, the timers and the device, and sends its setup. */
function serveMount(
  thread: EngineThread,
  serving: Serving,
  mount: MountedDevice,
  logger: Logger,
): ServingEngine {
  const { worker, port, mailState, ring } = thread
  const { services, measurements } = serving
  worker.ref()
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
  const calls: Calls<EngineCalls> = createCalls<EngineCalls>(
    {
      ...services,
      readMany: (stream: number, ranges: readonly FileRange[]) =>
        services.readMany(
          ranges,
          bounded((piece) => calls.call('piece', stream, piece.file, piece.offset, piece.data)),
        ),
      changed: () => timers.changed(),
      fetched: () => timers.fetched(),
      nearFull: (turn: number, nearFull: boolean, files: Ino[]) => switching.run(turn, nearFull, files),
      retryInterrupt: (low: number, high: number) => interrupts.retryLater(low, high),
      writeBack: (ino: Ino) => writeBack(mount.fd, ino, logger),
      unmounted: () => resolve(),
    },
    createSender(port, mailState, () => mount.wakeServer()),
  )
  const switching = createSwitching(calls, mount.fd, logger)
  const timers = createSyncTimers({
    syncChanged: () => calls.call('syncChanged'),
    flushFetched: () => calls.call('flushFetched'),
    logger,
  })
  const interrupts = createInterrupts(mount.fd, logger)
  const margin = watchMargin(mount.device, (bytes) => ignoreFailure(calls.call('margin', bytes)), logger)
  const directReads = createDirectReadRunner({
    ring,
    device: mount.fd,
    read: services.read,
    wakeEngine: () => ignoreFailure(calls.call('directReadDone')),
    onFailure: (slot, error) => ignoreFailure(calls.call('directReadFailed', slot, crossing(error))),
    onFetched: () => timers.fetched(),
    observe: measurements.directReads.observe,
    logger,
  })

  /** Nothing is written to the device from now on but replies of the engine. */
  function stopHelpers(): void {
    margin.stop()
    interrupts.stop()
    directReads.stop()
  }

  const exit = thread.watch((cause) => {
    stopHelpers()
    const reason = new HowdahError('mount_failed', 'the engine thread ended', { cause })
    calls.end(reason)
    reject(reason)
  })
  port.on('message', (message: CallMessage | typeof POLL_RING) => {
    if (message === POLL_RING) directReads.poll()
    else calls.receive(message)
  })
  const { setup, transfer } = setupOf(serving, mount.fd, margin.bytes, logger)
  worker.postMessage(setup, transfer)

  return {
    ended,
    statistics: () => calls.call('statistics'),
    usage: () => calls.call('usage'),
    limit: (quotas) => calls.call('limit', quotas),
    flush: () => calls.call('flush'),
    prefetch: (record) => calls.call('prefetch', record),
    noteDamaged: (file, block) => calls.call('noteDamaged', file, block),
    starting: () => calls.call('starting'),
    settled: () => calls.call('settled'),
    unmount: () => mount.unmount(),
    async close() {
      stopHelpers()
      await switching.ended()
      await timers.stop()
      await calls.call('close')
      exit.stop()
      await worker.terminate()
      port.close()
      mount.close()
    },
  }
}

/** What the thread is to serve; the tree is transferred. */
function setupOf(
  { spec, tree, journalState, fetched, measurements }: Serving,
  fd: number,
  marginBytes: number,
  logger: Logger,
): { setup: EngineSetup; transfer: ArrayBuffer[] } {
  const { columns, transfer } = tree.transfer()
  const setup: EngineSetup = {
    fd,
    session: spec.session,
    cachePath: spec.cachePath,
    columns,
    journalState,
    fetched,
    owner: spec.owner,
    limits: {
      ...{ quotaBytes: spec.quotaBytes, shareBytes: spec.shareBytes },
      ...{ reserveBytes: spec.reserveBytes, marginBytes },
    },
    latencies: measurements.fuse.memory,
    log: { level: logger.level, file: cachePaths(spec.cachePath).log },
  }
  return { setup, transfer }
}

/** Switches files to write-through and back, one change after another, and reports to the engine what was written back. */
function createSwitching(calls: Calls<EngineCalls>, device: number, logger: Logger) {
  let last: Promise<void> = Promise.resolve()
  return {
    run(turn: number, nearFull: boolean, files: readonly Ino[]): void {
      last = last
        .then(() => switchFiles(device, files, nearFull, logger))
        .then(() => (nearFull ? calls.call('handedOver', turn) : undefined))
        // The mount may have ended meanwhile.
        .catch((err: unknown) => logger.debug({ err }, 'files were not switched to or from write-through'))
    },
    ended: () => last,
  }
}

/** The margin now, in bytes, and `onChange` whenever the kernel's settings change it. */
function watchMargin(device: string, onChange: (bytes: number) => void, logger: Logger) {
  let bytes = margin(device, logger)
  const timer = setInterval(() => {
    const now = margin(device, logger)
    if (now === bytes) return
    logger.warn({ marginBytes: now }, 'the bound of dirty pages of this mount has changed')
    bytes = now
    onChange(now)
  }, CHECK_BOUND_MS)
  timer.unref()
  return { bytes, stop: () => clearInterval(timer) }
}

/**
 * The space below which a write cache is near full: twice what the kernel may have accepted, because a page of 4 KiB may
 * change a block of 8 KiB; plus the amount by which it exceeds its bound (measured: less than 16 MiB, with 60 writers and a
 * stopped server).
 */
function margin(device: string, logger: Logger): number {
  return 2 * boundChangedBytes(device, logger) + 32 * 1024 * 1024
}

/** Calls that report something fail only when the engine has ended, and then need no handling. */
function ignoreFailure(call: Promise<void>): void {
  call.catch(() => undefined)
}

/** Limits the pieces in flight: resolves at once below the limit, otherwise when one of them was processed. */
function bounded(send: (piece: RangeData) => Promise<void>): Parameters<LocalServices['readMany']>[1] {
  const inFlight = new Set<Promise<void>>()
  return async (piece) => {
    const sent = send(piece).finally(() => inFlight.delete(sent))
    inFlight.add(sent)
    ignoreFailure(sent)
    if (inFlight.size >= PIECES_IN_FLIGHT) await Promise.race(inFlight)
  }
}
