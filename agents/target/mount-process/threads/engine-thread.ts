/**
 * The program of the engine thread: loads, waits for its setup, then sleeps in the FUSE device and serves its requests.
 * From then on nothing here may depend on the event loop, which runs only when the driver yields to it.
 */
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { createLogger } from '../../../../config/logger.ts'
import { Latencies } from '../../../../config/monitoring/latencies.ts'
import { FUSE_OPERATIONS } from '../../filesystem/drivers/fuse-operations.ts'
import { serve } from '../../filesystem/drivers/kernel/serve.ts'
import { createEngine } from '../../filesystem/engine.ts'
import { BaseTree } from '../../filesystem/tree/base-tree.ts'
import { type CallMessage, createCalls, crossed } from './calls.ts'
import { createDirectReadSender } from './direct-read-ring.ts'
import {
  type EngineCalls,
  type EngineSetup,
  type EngineThreadData,
  type MainCalls,
  POLL_RING,
} from './engine-messages.ts'
import { createMailbox } from './mailbox.ts'
import { remoteServices } from './remote-services.ts'

if (parentPort === null) throw new Error('this is the program of a thread')
const { port, mailState, directReads: ring } = workerData as EngineThreadData
const [setup] = (await once(parentPort, 'message')) as [EngineSetup]
const { fd, log, session, columns, latencies, ...parts } = setup
const logger = createLogger('mount-process', log.level, { file: log.file }).child({
  session,
  thread: 'engine',
})

/** What was reported to the main thread, which has not synced since. */
const reported = { changed: false, fetched: false }
/** Number of changes of `nearFull`. */
let turns = 0
/** The kernel caches writes. */
let cachesWrites = true
const handlers: EngineCalls = {
  statistics: () => engine.statistics(),
  usage: () => engine.usage(),
  limit: (quotas) => engine.limit(quotas),
  margin: (bytes) => engine.margin(cachesWrites ? bytes : 0),
  syncChanged: () => engine.syncChanged().finally(() => clearReported('changed')),
  flushFetched: () => engine.flushFetched().finally(() => clearReported('fetched')),
  flush: () => engine.flush().finally(() => clearReported('changed')),
  prefetch: (record) => engine.prefetch(record),
  noteDamaged: (file, block) => engine.noteDamaged(file, block),
  starting: () => engine.starting(),
  settled: () => engine.settled(),
  handedOver: (turn) => {
    if (turn === turns) engine.flushed()
  },
  close: () => engine.close(),
  piece: (...piece) => remote.piece(...piece),
  // Completed slots are processed before every message.
  directReadDone: () => undefined,
  directReadFailed: (slot, error) => directReads.failed(slot, crossed(error)),
}
const calls = createCalls<MainCalls>(handlers, (message, transfer) => port.postMessage(message, transfer))
const directReads = createDirectReadSender(ring, () => port.postMessage(POLL_RING))
const receive = (message: unknown) => {
  directReads.takeDone()
  calls.receive(message as CallMessage)
}
const remote = remoteServices(calls)
const engine = createEngine({
  ...parts,
  tree: BaseTree.of(columns),
  services: remote.services,
  directReads,
  logger,
})
const mailbox = createMailbox({
  port,
  state: mailState,
  receive,
  beforeSleep() {
    directReads.takeDone()
    if (!reported.changed && engine.unsynced) report('changed')
    if (!reported.fetched && engine.unflushed) report('fetched')
  },
})

await serve(fd, engine, mailbox, {
  logger,
  volatileDirectory: 'wal',
  onAgreed(agreement) {
    logger.info({ minor: agreement.minor, cachesWrites: agreement.cachesWrites }, 'the kernel has agreed')
    if (agreement.cachesWrites) return
    cachesWrites = false
    engine.margin(0)
  },
  directReads,
  observe: new Latencies(FUSE_OPERATIONS, latencies).observe,
  retryInterrupt: (low, high) => void calls.call('retryInterrupt', low, high),
  writeBack: (ino) => calls.call('writeBack', ino),
  onNearFull: (nearFull) => void calls.call('nearFull', ++turns, nearFull, engine.referencedFiles()),
})
// The mount is gone and this thread no longer sleeps: further messages arrive by the event loop.
port.on('message', receive)
await calls.call('unmounted')

function report(what: keyof typeof reported): void {
  reported[what] = true
  void calls.call(what)
}

function clearReported(what: keyof typeof reported): void {
  reported[what] = false
}
