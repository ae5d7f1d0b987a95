/**
 * Whom a certificate names, and which enrolment of that name it belongs to. Each revocation begins a new enrolment: what
 * belongs to an earlier one is refused, whoever issued it and whenever. Pure.
 */

/** The subject of a certificate, as Node gives it. */
export interface CertificateSubject {
  readonly CN?: string | string[] | undefined
  readonly OU?: string | string[] | undefined
}

export interface Certified {
  /** The broker's user. */
  readonly user: string
  /** 0: the certificate names none. */
  readonly enrolment: number
}

const PREFIX = 'enrolment '

/** The organizational unit (OU) that says to which enrolment a certificate belongs. */
export function enrolmentUnit(enrolment: number): string {
  return `${PREFIX}${enrolment}`
}

/** Undefined: the certificate names nobody, or several. */
export function certified({ CN, OU }: CertificateSubject): Certified | undefined {
  if (typeof CN !== 'string' || CN === '') return undefined
  if (OU === undefined) return { user: CN, enrolment: 0 }
  const number =
    typeof OU === 'string' && OU.startsWith(PREFIX) ? Number(OU.slice(PREFIX.length)) : Number.NaN
  return Number.isSafeInteger(number) && number >= 0 ? { user: CN, enrolment: number } : undefined
}

/** Which enrolments are revoked: all before this one, by user. */
export type Revocations = ReadonlyMap<string, number>

export function isRevoked({ user, enrolment }: Certified, revocations: Revocations): boolean {
  return enrolment < (revocations.get(user) ?? 0)
}

/** The name in a mount server's certificate that clients of the data plane verify; they know the agent's name only. */
export function mountServerName(agent: string): string {
  return `${agent}.mount.howdah`
}
