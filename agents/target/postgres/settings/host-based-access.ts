/** pg_hba.conf and pg_ident.conf of a published instance; generated at each start. Pure. */

import type { InstanceSpec } from '../specification.ts'
import { listensBeyond } from './listening.ts'

/** Number of Howdah's own lines before the content given by the user. */
export const HBA_HEADER_LINES = 3

/**
 * Accepts SCRAM secrets and MD5 hashes, whichever a role has (PostgreSQL documentation, "Password Authentication"), up to
 * version 18. Roles of old clusters may still have MD5 hashes.
 */
const METHOD = 'md5'

/**
 * Connections over the socket need no password, since its directory is accessible to root and the instance's user only; the
 * agent and its exports depend on that. Everything else is the content given by the user, or requires the passwords of the
 * backup's roles.
 */
export function hbaFile(spec: InstanceSpec): string {
  const header = `# Made by Howdah for session ${spec.session}; written anew when the instance starts.
# Only root and ${spec.user.name} can access the socket directory, so connections over it need no password.
local all all trust
`
  if (spec.hba !== undefined) return `${header}${spec.hba.replace(/\n?$/, '\n')}`
  const from = listensBeyond(spec) ? ['0.0.0.0/0', '::/0'] : ['127.0.0.1/32', '::1/128']
  return header + from.map((address) => `host  all all ${address} ${METHOD}\n`).join('')
}

export function identFile(spec: InstanceSpec): string {
  return `# Made by Howdah for session ${spec.session}; no mappings.\n`
}
