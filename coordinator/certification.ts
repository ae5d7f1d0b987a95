/** What is asked of the fleet's authority for an agent, and what it answers. */

/** PEM. */
export interface SignedCertificate {
  readonly certificate: string
  readonly ca: string
}

export interface CertifyRequest {
  readonly csr: string
  readonly addresses: readonly string[]
  /** Also if the agent was revoked. */
  readonly again: boolean
}
