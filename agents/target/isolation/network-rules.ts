/**
 * The nftables table that keeps a session from connecting to anything outside itself. Pure.
 *
 * The rules match the control group of a socket's owner. Of TCP they filter only the SYN that opens a connection, so
 * clients that connect to the server are answered as usual and no connection tracking is needed. Packets to this machine
 * itself are marked on output, and accepted on input only where the receiving socket belongs to the session too.
 * Sources: nft(8), "socket" and "meta" expressions; RFC 9293, 3.5, for SYN without ACK.
 */
import { createHash } from 'node:crypto'
import type { OutboundAddress } from './outbound.ts'

export interface NetworkRulesInput {
  readonly session: string
  /** Path of the control group below /sys/fs/cgroup, and its depth below the root of its hierarchy. */
  readonly cgroup: { readonly nftPath: string; readonly level: number }
  readonly outbound: readonly OutboundAddress[]
}

/** Table names allow no `-`, and session names no `_`. */
export function tableName(session: string): string {
  return `howdah_${session.replaceAll('-', '_')}`
}

/** Commands for nft(8) that create the table, replacing one that exists. */
export function networkRules({ session, cgroup, outbound }: NetworkRulesInput): string {
  const table = tableName(session)
  const mark = packetMark(session)
  const ours = `socket cgroupv2 level ${cgroup.level} "${cgroup.nftPath}"`
  const allowed = outbound.map(
    ({ address, family, port }) =>
      `    ${family === 6 ? 'ip6' : 'ip'} daddr ${address}${port === undefined ? '' : ` meta l4proto { tcp, udp } th dport ${port}`} accept\n`,
  )
  return `table inet ${table}
delete table inet ${table}
table inet ${table} {
  chain output {
    type filter hook output priority filter; policy accept;
    ${ours} goto wall
  }
  chain wall {
    meta l4proto tcp tcp flags & (syn | ack) != syn accept
${allowed.join('')}    oif "lo" meta mark set ${mark} accept
    reject with icmpx type admin-prohibited
  }
  chain input {
    type filter hook input priority filter; policy accept;
    meta mark != ${mark} accept
    ${ours} accept
    reject with icmpx type admin-prohibited
  }
}
`
}

/** Derived from the session, in a range that administrators are unlikely to use. */
function packetMark(session: string): string {
  const digest = createHash('sha256').update(session).digest().readUInt32BE(0)
  return `0x${((digest & 0x0fff_ffff) | 0x4000_0000).toString(16)}`
}
