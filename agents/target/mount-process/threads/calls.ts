/**
 * Calls between the two threads of a mount process: each side calls handlers of the other by name, and gets a result or
 * an error back. `post` transports the messages and wakes the receiver. Bytes are transferred, not copied, where they
 * have a buffer of their own.
 */
import { isMarkedAsUntransferable, type Transferable } from 'node:worker_threads'
import { ERROR_CODES, type ErrorCode, HowdahError } from '../../../../messages/errors.ts'
import { isNoSpace } from '../../filesystem/contents/local-error.ts'
import { FileSystemError } from '../../filesystem/file-system.ts'

/** The handlers of one side. Arguments and results must be supported by structuredClone. */
// biome-ignore lint/suspicious/noExplicitAny: arguments are checked where a handler is offered and called
export type Handlers = Readonly<Record<string, (...args: any[]) => unknown>>

/** An error in transferable form, with the code on which the other side decides. */
export type CrossingError =
  | { readonly kind: 'howdah'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'file-system'; readonly errno: string; readonly message: string }
  /** Of the operating system, or any other; `code` as Node names it, e.g. ENOSPC. */
  | { readonly kind: 'system'; readonly code: string | undefined; readonly message: string }

export type CallMessage =
  | { readonly call: string; readonly id: number; readonly args: readonly unknown[] }
  | { readonly answer: number; readonly value: unknown }
  | { readonly answer: number; readonly error: CrossingError }

export type Post = (message: CallMessage, transfer: readonly Transferable[]) => void

/** One side. */
export interface Calls<Other extends Handlers> {
  /** @throws the other side's error, with its code; or what `end` was given */
  call<Name extends keyof Other & string>(
    name: Name,
    ...args: Parameters<Other[Name]>
  ): Promise<Awaited<ReturnType<Other[Name]>>>
  /** Handles a message of the other side: calls its handler synchronously, or settles a call. */
  receive(message: CallMessage): void
  /** The other side has ended: rejects all pending and later calls. */
  end(reason: Error): void
}

interface Waiting {
  readonly resolve: (value: never) => void
  readonly reject: (error: unknown) => void
}

export function createCalls<Other extends Handlers>(handlers: Handlers, post: Post): Calls<Other> {
  const waiting = new Map<number, Waiting>()
  let lastId = 0
  let ended: Error | undefined

  async function answer(id: number, name: string, args: readonly unknown[]): Promise<void> {
    try {
      const handler = handlers[name]
      if (handler === undefined) throw new HowdahError('internal', `this thread has no handler ${name}`)
      const { values, transfer } = moved([await handler(...args.map(received))])
      post({ answer: id, value: values[0] }, transfer)
    } catch (error) {
      post({ answer: id, error: crossing(error) }, [])
    }
  }

  return {
    call(name, ...args) {
      return new Promise((resolve, reject) => {
        if (ended !== undefined) return reject(ended)
        const id = ++lastId
        const { values, transfer } = moved(args)
        post({ call: name, id, args: values }, transfer)
        waiting.set(id, { resolve, reject })
      })
    },
    receive(message) {
      if ('call' in message) {
        void answer(message.id, message.call, message.args)
        return
      }
      const call = waiting.get(message.answer)
      if (call === undefined) return
      waiting.delete(message.answer)
      if ('error' in message) call.reject(crossed(message.error))
      else call.resolve(received(message.value) as never)
    },
    end(reason) {
      ended = reason
      for (const { reject } of waiting.values()) reject(reason)
      waiting.clear()
    },
  }
}

/** Byte arrays among the values are transferred; nested ones are copied. */
function moved(values: readonly unknown[]): { values: unknown[]; transfer: ArrayBuffer[] } {
  const transfer: ArrayBuffer[] = []
  const own = values.map((value) => {
    if (!(value instanceof Uint8Array)) return value
    const bytes = ownBytes(value)
    transfer.push(bytes.buffer)
    return bytes
  })
  return { values: own, transfer }
}

/** The bytes in a buffer that holds nothing else, so that it can be transferred. */
function ownBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteLength } = bytes
  const isOwn =
    buffer instanceof ArrayBuffer && buffer.byteLength === byteLength && !isMarkedAsUntransferable(buffer)
  return isOwn ? new Uint8Array(buffer) : new Uint8Array(bytes)
}

/** A `Buffer` arrives as a plain array of bytes. */
function received(value: unknown): unknown {
  return value instanceof Uint8Array
    ? Buffer.from(value.buffer as ArrayBuffer, value.byteOffset, value.byteLength)
    : value
}

/** Converts an error to its transferable form. */
export function crossing(error: unknown): CrossingError {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof HowdahError) return { kind: 'howdah', code: error.code, message }
  if (error instanceof FileSystemError) return { kind: 'file-system', errno: error.errno, message }
  const code = isNoSpace(error) ? 'ENOSPC' : (error as { code?: unknown } | null | undefined)?.code
  return { kind: 'system', code: typeof code === 'string' ? code : undefined, message }
}

/** The inverse of `crossing`. */
export function crossed(error: CrossingError): Error {
  switch (error.kind) {
    case 'howdah':
      return new HowdahError(error.code in ERROR_CODES ? error.code : 'internal', error.message)
    case 'file-system':
      return new FileSystemError(error.errno, error.message)
    case 'system':
      return Object.assign(new Error(error.message), error.code !== undefined && { code: error.code })
    default:
      return error satisfies never
  }
}
