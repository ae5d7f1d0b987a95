/**
 * The worker thread's side of bzip2.ts: decodes one stream after the other, synchronously, as seek-bzip does.
 */
import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads'
import Bunzip from 'seek-bzip'
import { type FromWorker, SENT, TAKEN } from './bzip2.ts'

const PIECE_BYTES = 256 * 1024
/** Plain pieces that may be unconsumed before the worker pauses. */
const PIECES_AHEAD = 16
const TRUNCATED = 'the bzip2 stream ends too early'

parentPort?.on('message', ({ port, counters }: { port: MessagePort; counters: Int32Array }) => {
  const post = (message: FromWorker, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer)
  try {
    decode(port, counters, post)
    post({ kind: 'done' })
  } catch (error) {
    post({ kind: 'failed', message: error instanceof Error ? error.message : String(error) })
  }
})

type Post = (message: FromWorker, transfer?: ArrayBuffer[]) => void

function decode(port: MessagePort, counters: Int32Array, post: Post): void {
  let input: Uint8Array | null = new Uint8Array(0)
  let position = 0
  let output = new Uint8Array(PIECE_BYTES)
  let filled = 0
  let posted = 0
  let received = 0

  /** Waits until there is a byte; false at the end of the input. */
  function more(): boolean {
    while (input !== null && position >= input.length) {
      if (received > 0) post({ kind: 'wants' })
      Atomics.wait(counters, SENT, received)
      const message = receiveMessageOnPort(port)
      if (message === undefined) throw new Error(TRUNCATED)
      received += 1
      input = message.message as Uint8Array | null
      position = 0
    }
    return input !== null
  }

  function emit(): void {
    if (filled === 0) return
    const bytes = output.subarray(0, filled)
    post({ kind: 'plain', bytes }, [output.buffer])
    output = new Uint8Array(PIECE_BYTES)
    filled = 0
    posted += 1
    for (;;) {
      const taken = Atomics.load(counters, TAKEN)
      if (posted - taken < PIECES_AHEAD) return
      Atomics.wait(counters, TAKEN, taken)
    }
  }

  const source = Object.assign(new Bunzip.Stream(), {
    readByte() {
      if (!more() || input === null) throw new Error(TRUNCATED)
      return input[position++] ?? 0
    },
    eof: () => !more(),
  })
  const sink = Object.assign(new Bunzip.Stream(), {
    writeByte(byte: number) {
      output[filled++] = byte
      if (filled === PIECE_BYTES) emit()
    },
  })
  Bunzip.decode(source, sink, true)
  emit()
}
