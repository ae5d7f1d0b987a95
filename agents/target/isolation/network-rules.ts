/**
 * The network wall of a session, as a table of nftables. Pure.
 *
 * Its processes are known by their control group, which their sockets carry. A connection begins with a SYN: only that
 * is looked at, so clients that connect to the server are answered as ever, and nothing has to be tracked. What goes to
 * this machine itself is marked on its way out, and let in only where the socket that receives it is the session's too.
 * Sources: nft(8), "socket" and "meta" expressions; RFC 9293, 3.5, for SYN without ACK.
 */
import { createHash } from 'node:crypto'
import type { OutboundAddress } from './outbound.ts'

export interface NetworkWall {
  readonly session: string
  /** The control group below /sys/fs/cgroup, and how many directories it lies below the root of its hierarchy. */
  readonly cgroup: { readonly nftPath: string; readonly level: number }
  readonly outbound: readonly OutboundAddress[]
}

/** Names of tables have no `-`, and those of sessions no `_`. */
export function tableName(session: string): string {
  return `howdah_${session.replaceAll('-', '_')}`
}

/** Commands of nft(8) that put the wall up, in the place of one that is there. */
export function networkRules({ session, cgroup, outbound }: NetworkWall): string {
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

/** Of the session, and unlike those that administrators choose. */
function packetMark(session: string): string {
  const digest = createHash('sha256').update(session).digest().readUInt32BE(0)
  return `0x${((digest & 0x0fff_ffff) | 0x4000_0000).toString(16)}`
}
