/**
 * Owns the choice of the RabbitMQ that tests start: the one that is installed, 3.10 or later. From 4.0 on it refuses
 * everything that RabbitMQ is giving up, as later releases do.
 */
import { realpathSync } from 'node:fs'
import {
  type PrivateBroker,
  type PrivateBrokerOptions,
  startPrivateBroker,
} from '../../coordinator/cli/broker.ts'
import { SERVER_SCRIPT } from '../../coordinator/cli/broker-files.ts'

/** Such as `3.10.8`. */
export const RABBITMQ_VERSION =
  /rabbitmq_server-([\d.]+)/.exec(realpathSync(SERVER_SCRIPT))?.[1] ?? 'of an unknown version'

/** Source: https://www.rabbitmq.com/release-information/deprecated-features-list */
const GIVEN_UP = [
  ...['amqp_address_v1', 'global_qos', 'management_metrics_collection', 'queue_master_locator'],
  ...['ram_node_type', 'transient_nonexcl_queues'],
]
/** What the console shows of connections is part of the metrics. */
const OF_THE_CONSOLE = ['management_metrics_collection']

/** Whether it knows how to refuse them all. */
export const REFUSES_WHAT_IS_GIVEN_UP = Number.parseInt(RABBITMQ_VERSION, 10) >= 4

export interface TestBrokerOptions extends Omit<PrivateBrokerOptions, 'settings'> {
  /** For a test of what RabbitMQ's console shows. Default: no. */
  readonly console?: boolean
}

export async function startTestBroker({
  console = false,
  ...options
}: TestBrokerOptions): Promise<PrivateBroker> {
  return startPrivateBroker({ ...options, settings: refusals(console ? OF_THE_CONSOLE : []) })
}

/** Lines of rabbitmq.conf. */
export function refusals(permitted: readonly string[] = []): string[] {
  if (!REFUSES_WHAT_IS_GIVEN_UP) return []
  return GIVEN_UP.map((feature) => `deprecated_features.permit.${feature} = ${permitted.includes(feature)}`)
}
