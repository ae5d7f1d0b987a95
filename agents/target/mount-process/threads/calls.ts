/**
 * Calls between the two threads of a mount process: either side calls what the other offers, by name, and gets an
 * answer or an error back. How messages travel, and who is woken for them, is not known here. Bytes are moved, not
 * copied, wherever they have a buffer of their own.
 */
import { isMarkedAsUntransferable, type Transferable } from 'node:worker_threads'
import { ERROR_CODES, type ErrorCode, HowdahError } from '../../../../messages/errors.ts'
import { FileSystemError } from '../../filesystem/file-system.ts'

/** What one side offers. Arguments and results are what structuredClone can copy. */
// biome-ignore lint/suspicious/noExplicitAny: arguments are checked where a handler is offered and called
export type Handlers = Readonly<Record<string, (...args: any[]) => unknown>>

/** An error as it crosses: with the code by which the other side decides. */
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

/** One side of the two. */
export interface Calls<Other extends Handlers> {
  /** @throws the other side's error, with its code; or what `end` was given */
  call<Name extends keyof Other & string>(
    name: Name,
    ...args: Parameters<Other[Name]>
  ): Promise<Awaited<ReturnType<Other[Name]>>>
  /** Takes a message of the other side. Its handler is called at once. */
  receive(message: CallMessage): void
  /** The other side is gone: rejects every call, those to come too. */
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
      if (handler === undefined) throw new HowdahError('internal', `nothing in this thread is called ${name}`)
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

/** Bytes among the values themselves are moved; deeper ones are copied by the crossing. */
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

/** The bytes in a buffer that holds nothing else, so that it can be given away. */
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

/** An error in the form in which it crosses. */
export function crossing(error: unknown): CrossingError {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof HowdahError) return { kind: 'howdah', code: error.code, message }
  if (error instanceof FileSystemError) return { kind: 'file-system', errno: error.errno, message }
  const code = (error as { code?: unknown } | null | undefined)?.code
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
