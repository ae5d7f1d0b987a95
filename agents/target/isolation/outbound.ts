/** The destinations that a session's server may connect to: `HOST[:PORT]` of the request, resolved to addresses. */
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'

export interface OutboundRule {
  readonly host: string
  /** Undefined: any port. */
  readonly port: number | undefined
}

export interface OutboundAddress {
  readonly address: string
  readonly family: 4 | 6
  readonly port: number | undefined
}

export interface ResolvedOutbound {
  readonly addresses: readonly OutboundAddress[]
  /** Names and their addresses, for /etc/hosts: the isolated server reaches no name server. */
  readonly hosts: readonly { readonly name: string; readonly address: string }[]
  /** Hosts that could not be resolved. */
  readonly unknown: readonly string[]
}

/** @param text as the message contract has it: `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT` */
export function parseOutbound(text: string): OutboundRule {
  const [, bracketed, plain, port] = /^(?:\[(.*)\]|([^:]*))(?::(\d+))?$/.exec(text) ?? []
  return { host: bracketed ?? plain ?? text, port: port === undefined ? undefined : Number(port) }
}

export async function resolveOutbound(rules: readonly OutboundRule[]): Promise<ResolvedOutbound> {
  const addresses: OutboundAddress[] = []
  const hosts: { name: string; address: string }[] = []
  const unknown: string[] = []
  for (const { host, port } of rules) {
    const found = await lookup(host, { all: true }).catch(() => [])
    if (found.length === 0) unknown.push(host)
    for (const { address, family } of found) {
      addresses.push({ address, family: family === 6 ? 6 : 4, port })
      if (isIP(host) === 0) hosts.push({ name: host, address })
    }
  }
  return { addresses, hosts, unknown }
}

/** /etc/hosts of the session, see hosts(5). */
export function hostsFile(hosts: ResolvedOutbound['hosts']): string {
  const own = ['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback']
  return [...own, ...hosts.map(({ name, address }) => `${address} ${name}`), ''].join('\n')
}
