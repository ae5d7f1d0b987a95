/** The end of an authority: when it is warned of, and what is said then. Reads no file and no clock. */
import type { X509Certificate } from 'node:crypto'
import { HowdahError } from '../../../messages/errors.ts'

/** Time to make another authority and to enrol every host again. */
const WARNING_MS = 180 * 86_400_000

const ADVICE =
  'make another authority in another directory and enrol the fleet again; "The end of an authority" in docs/fleet.md has the steps'

/** Undefined: it is valid for long enough. */
export function authorityWarning(ca: X509Certificate, directory: string, now: Date): string | undefined {
  const end = ca.validToDate
  if (now.getTime() < end.getTime() - WARNING_MS) return undefined
  if (now >= end) return authorityExpired(ca, directory).message
  return `the authority in ${directory} expires at ${end.toISOString()}, and with it every certificate of the fleet: before that, ${ADVICE}`
}

export function authorityExpired(ca: X509Certificate, directory: string): HowdahError {
  return new HowdahError(
    'configuration',
    `the authority in ${directory} expired at ${ca.validToDate.toISOString()}, and with it every certificate of the fleet: ${ADVICE}`,
  )
}
