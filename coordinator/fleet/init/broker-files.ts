/**
 * What a RabbitMQ of a distribution's package needs for a fleet, as files of /etc/rabbitmq that it reads when it starts:
 * TLS with logins by certificate, two plugins, and the definitions of users, queues and policies. Pure.
 * Source: https://www.rabbitmq.com/docs/configure, /docs/ssl, /docs/plugins and /docs/definitions
 */

export interface BrokerFiles {
  /** Of the authority, the broker's certificate and its key, PEM. */
  readonly ca: string
  readonly certificate: string
  readonly key: string
  readonly definitions: string
}

export const TLS_PORT = 5671
export const MANAGEMENT_PORT = 15_672

const PLUGINS = ['rabbitmq_auth_mechanism_ssl', 'rabbitmq_management'] as const

/** TLS on the listeners for it; who has a certificate of the authority logs in by it, and others by password. */
export function certificateLogin({ ca, certificate, key }: Omit<BrokerFiles, 'definitions'>): string[] {
  return [
    `ssl_options.cacertfile = ${ca}`,
    `ssl_options.certfile = ${certificate}`,
    `ssl_options.keyfile = ${key}`,
    'ssl_options.verify = verify_peer',
    'ssl_options.fail_if_no_peer_cert = true',
    'ssl_options.versions.1 = tlsv1.3',
    'ssl_options.versions.2 = tlsv1.2',
    'ssl_cert_login_from = common_name',
    'auth_mechanisms.1 = EXTERNAL',
    'auth_mechanisms.2 = PLAIN',
    'auth_mechanisms.3 = AMQPLAIN',
  ]
}

/** A file of /etc/rabbitmq/conf.d. */
export function brokerConfiguration({ ca, certificate, key, definitions }: BrokerFiles): string {
  return `# Made by "howdah fleet init". Settings of your own belong into another file of this directory.

# Agents, coordinators and operators log in by certificates of the fleet's authority. If nobody else uses this broker,
# "listeners.tcp = none" closes its plaintext port, 5672.
listeners.ssl.default = ${TLS_PORT}
${certificateLogin({ ca, certificate, key }).join('\n')}

# The console and the API by which the coordinator makes the users of agents. Elsewhere: ssh -L 15672:127.0.0.1:15672.
management.tcp.ip = 127.0.0.1
management.tcp.port = ${MANAGEMENT_PORT}

# The largest message of Howdah.
max_message_size = 16777216

# Users, permissions, policies and queues; read again only when the file has changed, so that what is tuned stays.
definitions.import_backend = local_filesystem
definitions.local.path = ${definitions}
definitions.skip_if_unchanged = true
`
}

/**
 * The list of plugins, an Erlang term, with those that a fleet needs.
 * @param text the list as it is; undefined: there is none
 * @returns undefined: it is none that can be read
 */
export function enabledPlugins(text: string | undefined): string | undefined {
  const [, inside] = /^\s*\[([a-z0-9_,\s]*)\]\s*\.\s*$/.exec(text ?? '[].') ?? []
  if (inside === undefined) return undefined
  const names = inside.split(',').map((name) => name.trim())
  const all = new Set([...names.filter((name) => name !== ''), ...PLUGINS])
  return all.size === names.length && text !== undefined ? text : `[${[...all].join(',')}].\n`
}

/** Whether two documents of definitions say the same, apart from the salt of their hashes. */
export function definitionsAgree(one: string | undefined, other: string): boolean {
  const withoutHashes = (text: string) => text.replace(/"password_hash": ?"[^"]+"/g, '"password_hash":"…"')
  return one !== undefined && withoutHashes(one) === withoutHashes(other)
}
