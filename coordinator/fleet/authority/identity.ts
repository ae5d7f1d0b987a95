/** Who is certified as what: the name in the certificate, its usages, and the names by which its owner is reached. Pure. */
import { mountServerName } from '../../../messages/certified.ts'
import {
  agentUser,
  COORDINATOR_USER,
  clientUser,
  invitedUser,
  operatorUser,
} from '../../../messages/permissions.ts'

import type { CertificateContents } from './x509.ts'

export interface Identity {
  readonly kind: 'mount' | 'target' | 'client' | 'operator' | 'coordinator' | 'broker' | 'invite'
  readonly name: string
  /** DNS names and IP addresses by which it is reached: mount servers and brokers have some. */
  readonly addresses: readonly string[]
  /** Of an agent; default: its first. */
  readonly enrolment?: number
}

/** The broker logs in whom the common name names. */
function commonName({ kind, name, enrolment }: Identity): string {
  switch (kind) {
    case 'mount':
    case 'target':
      return agentUser({ kind, name, ...(enrolment !== undefined && { enrolment }) })
    case 'client':
      return clientUser(name)
    case 'operator':
      return operatorUser(name)
    case 'coordinator':
      return COORDINATOR_USER
    case 'broker':
      return name
    case 'invite':
      return invitedUser(name)
    default:
      return kind satisfies never
  }
}

/** What its certificate says, but for the enrolment and the time. */
export function contentsOf(identity: Identity): Pick<CertificateContents, 'commonName' | 'names' | 'usages'> {
  const { kind, name, addresses } = identity
  const names = [...(kind === 'mount' ? [mountServerName(name)] : []), ...addresses]
  return {
    commonName: commonName(identity),
    names: [...new Set(names)],
    // A mount agent serves the data plane, and is a client of the broker; the nodes of a broker connect to each other.
    usages: kind === 'mount' || kind === 'broker' ? ['server', 'client'] : ['client'],
  }
}
