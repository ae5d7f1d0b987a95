/**
 * The program of the engine thread: loads, waits for its orders, then sleeps in the FUSE device and serves what comes
 * out of it. From then on nothing here may need the event loop: it turns only when the driver lets it.
 */
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { createLogger } from '../../../../config/logger.ts'
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
const [orders] = (await once(parentPort, 'message')) as [EngineSetup]
const { fd, log, session, columns, ...parts } = orders
const logger = createLogger('mount-process', log.level, log.file).child({ session, thread: 'engine' })

/** What main was told and has not acted on yet. */
const told = { changed: false, fetched: false }
/** How often it became near full, or no longer was. */
let turns = 0
const handlers: EngineCalls = {
  statistics: () => engine.statistics(),
  limit: (quotaBytes) => engine.limit(quotaBytes),
  margin: (bytes) => engine.margin(bytes),
  syncChanged: () => engine.syncChanged().finally(() => tellAgain('changed')),
  flushFetched: () => engine.flushFetched().finally(() => tellAgain('fetched')),
  flush: () => engine.flush().finally(() => tellAgain('changed')),
  prefetch: (record) => engine.prefetch(record),
  noteDamaged: (file, block) => engine.noteDamaged(file, block),
  starting: () => engine.starting(),
  settled: () => engine.settled(),
  handedOver: (turn) => {
    if (turn === turns) engine.flushed()
  },
  close: () => engine.close(),
  piece: (...piece) => remote.piece(...piece),
  // They are taken before every message.
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
    if (!told.changed && engine.unsynced) tell('changed')
    if (!told.fetched && engine.unflushed) tell('fetched')
  },
})

await serve(fd, engine, mailbox, {
  logger,
  volatileDirectory: 'wal',
  directReads,
  retryInterrupt: (low, high) => void calls.call('retryInterrupt', low, high),
  writeBack: (ino) => calls.call('writeBack', ino),
  onNearFull: (nearFull) => void calls.call('nearFull', ++turns, nearFull, engine.referencedFiles()),
})
// The mount is gone and nothing sleeps any more: what is left comes by the event loop.
port.on('message', receive)
await calls.call('unmounted')

function tell(what: keyof typeof told): void {
  told[what] = true
  void calls.call(what)
}

function tellAgain(what: keyof typeof told): void {
  told[what] = false
}
