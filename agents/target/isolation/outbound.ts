/** Where a session's server may connect to: `HOST[:PORT]` of the request, and the addresses that a host has now. */
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
  /** Names and their addresses: no name server can be reached from behind the wall. */
  readonly hosts: readonly { readonly name: string; readonly address: string }[]
  /** Hosts that have no address. */
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
