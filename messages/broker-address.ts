/** The URLs of a broker: those of the nodes of one cluster, which all have its users and virtual hosts. Pure. */
import { HowdahError } from './errors.ts'

/** One URL, or those of all nodes of a cluster. */
export type BrokerUrl = string | readonly string[]

/**
 * Adds the heartbeat where a URL does not give one.
 * @throws HowdahError `configuration`; the URLs, which hold passwords, are not in the message
 */
export function brokerAddresses(url: BrokerUrl, heartbeatSeconds = 10): readonly [URL, ...URL[]] {
  const [first, ...others] = [url].flat().map((text) => brokerAddress(text, heartbeatSeconds))
  if (first === undefined) throw new HowdahError('configuration', 'the broker needs a URL')
  const stranger = others.find((other) => !areOfOneBroker(first, other))
  if (stranger !== undefined) {
    throw new HowdahError(
      'configuration',
      'the broker URLs must be those of one cluster, with the same user, password and virtual host, ' +
        `all with TLS or all without: those of ${first.host} and ${stranger.host} differ`,
    )
  }
  return [first, ...others]
}

/**
 * Who we are for the broker. RabbitMQ's default is guest, who may connect over loopback only.
 * @param certified whom our own certificate names
 */
export function brokerUser(url: BrokerUrl, certified?: string): string {
  const [address] = brokerAddresses(url)
  if (certified !== undefined && logsInByCertificate(address, certified)) return certified
  return decodeURIComponent(address.username) || 'guest'
}

/** Whether the certificate says who we are (SASL EXTERNAL): over TLS, where the URL names no user. */
export function logsInByCertificate({ protocol, username }: URL, certified: string | undefined): boolean {
  return protocol === 'amqps:' && username === '' && certified !== undefined
}

/** HOST:PORT, for messages. */
export function nodeName({ hostname, port, protocol }: URL): string {
  return `${hostname}:${port || (protocol === 'amqps:' ? '5671' : '5672')}`
}

function brokerAddress(url: string, heartbeatSeconds: number): URL {
  const address = URL.canParse(url) ? new URL(url) : undefined
  if (!address || !['amqp:', 'amqps:'].includes(address.protocol)) {
    throw new HowdahError(
      'configuration',
      'the broker URL must be amqp://user:password@host:port/vhost or amqps://…',
    )
  }
  if (!address.searchParams.has('heartbeat')) address.searchParams.set('heartbeat', String(heartbeatSeconds))
  return address
}

const areOfOneBroker = (one: URL, other: URL): boolean =>
  (['protocol', 'username', 'password', 'pathname'] as const).every((part) => one[part] === other[part])
