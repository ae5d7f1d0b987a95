/**
 * bzip2, decoded by seek-bzip in worker threads: it is far too slow for the main thread.
 *
 * A worker decodes one stream at a time: compressed pieces are sent by a message port, plain pieces come back by it,
 * and a shared counter pauses the worker while its output is not consumed.
 */
import { Transform, type TransformCallback } from 'node:stream'
import { MessageChannel, Worker } from 'node:worker_threads'
import { programBeside } from '../../../config/program-beside.ts'

/** Workers kept for the next stream; starting one costs some 50 ms. */
const IDLE_WORKERS = 2
const idleWorkers: Worker[] = []

export type FromWorker =
  | { readonly kind: 'plain'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'wants' }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly message: string }

/** Indexes into the shared counters: pieces sent to the worker, plain pieces taken from it. */
export const SENT = 0
export const TAKEN = 1

function acquireWorker(): Worker {
  const kept = idleWorkers.pop()
  if (kept !== undefined) return kept
  const worker = new Worker(programBeside(import.meta.url, 'bzip2-worker'))
  // A worker in use has a listener of its stream as well; an idle one is only removed.
  worker.on('error', () => undefined)
  worker.on('exit', () => {
    const index = idleWorkers.indexOf(worker)
    if (index >= 0) idleWorkers.splice(index, 1)
  })
  return worker
}

function releaseWorker(worker: Worker): void {
  if (idleWorkers.length >= IDLE_WORKERS) {
    void worker.terminate()
    return
  }
  worker.unref()
  idleWorkers.push(worker)
}

/** A stream of plain bytes from a bzip2 stream. */
export function createBunzip2(): Transform {
  const worker = acquireWorker()
  worker.ref()
  const counters = new Int32Array(new SharedArrayBuffer(8))
  const { port1: port, port2 } = new MessageChannel()
  worker.postMessage({ port: port2, counters }, [port2])

  let finished = false
  let inputWanted: (() => void) | undefined
  let wants = 0
  let ended: TransformCallback | undefined
  let untaken = 0

  const settle = () => {
    if (finished) return
    finished = true
    port.close()
    worker.off('error', crashed)
    worker.off('exit', exited)
  }
  const crashed = (error: Error) => {
    settle()
    stream.destroy(error)
  }
  const exited = () => crashed(new Error('the bzip2 worker ended'))
  const take = () => {
    Atomics.add(counters, TAKEN, untaken)
    untaken = 0
    Atomics.notify(counters, TAKEN)
  }
  const send = (piece: Uint8Array | null) => {
    port.postMessage(piece)
    Atomics.add(counters, SENT, 1)
    Atomics.notify(counters, SENT)
  }

  const stream = new Transform({
    transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback) {
      if (finished) return done()
      send(chunk)
      if (wants > 0) {
        wants -= 1
        done()
      } else inputWanted = done
    },
    flush(done: TransformCallback) {
      if (finished) return done()
      ended = done
      send(null)
    },
    read(size: number) {
      if (untaken > 0) take()
      Transform.prototype._read.call(this, size)
    },
    destroy(error: Error | null, done: (error: Error | null) => void) {
      if (!finished) {
        settle()
        void worker.terminate()
      }
      done(error)
    },
  })

  worker.once('error', crashed)
  worker.once('exit', exited)
  port.on('message', (message: FromWorker) => {
    switch (message.kind) {
      case 'plain':
        untaken += 1
        if (stream.push(Buffer.from(message.bytes.buffer, 0, message.bytes.length))) take()
        return
      case 'wants':
        if (inputWanted !== undefined) {
          const next = inputWanted
          inputWanted = undefined
          next()
        } else wants += 1
        return
      case 'done':
        settle()
        releaseWorker(worker)
        inputWanted?.()
        ended?.()
        return
      case 'failed':
        settle()
        releaseWorker(worker)
        stream.destroy(new Error(message.message))
        return
      default:
        message satisfies never
    }
  })
  return stream
}

/** Decompresses a whole buffer. @throws Error when it is damaged or gives more than `maxBytes` */
export async function bunzip2(stored: Buffer, maxBytes: number): Promise<Buffer> {
  const stream = createBunzip2()
  stream.end(stored)
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of stream as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > maxBytes) throw new Error(`it is longer than ${maxBytes} bytes`)
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}
