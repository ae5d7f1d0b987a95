/** What a process is called where an operator of RabbitMQ sees it: names and properties of connections, tags of consumers. Pure. */

export interface ConsoleName {
  /** Kind and name: `howdah target db-7`. */
  readonly name: string
  /** The release of Howdah; undefined: unknown. */
  readonly version: string | undefined
}

const INFORMATION = 'Howdah publishes PostgreSQL instances from backup repositories'
/** AMQP 0-9-1: a consumer tag is a short string, of at most 255 bytes. */
const MAX_TAG = 200

/** `howdah target db-7 1.2.0 (publish)`. */
export function connectionName({ name, version }: ConsoleName, purpose: string): string {
  return `${name}${version === undefined ? '' : ` ${version}`} (${purpose})`
}

/** Properties that a connection shows beside its name. */
export function clientProperties({ version }: ConsoleName): Record<string, string> {
  return { product: 'Howdah', version: version ?? 'unknown', information: INFORMATION }
}

/** `howdah target db-7`: the queue that it consumes says the rest. RabbitMQ needs it to be unique on its channel only. */
export function consumerTag({ name }: ConsoleName): string {
  return Buffer.from(name).subarray(0, MAX_TAG).toString()
}
