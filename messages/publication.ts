/** One message as it is handed to RabbitMQ. */
import type { Options } from 'amqplib'

export interface Publication {
  readonly exchange: string
  readonly routingKey: string
  readonly content: Buffer
  readonly options: Options.Publish & { readonly messageId?: string }
  /** Message of the error `unroutable` when no queue takes it. Missing: no queue needs to take it. */
  readonly unroutable?: string
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}
