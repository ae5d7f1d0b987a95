/** The bodies of the messages by which agents get certificates, and lose them. */
import { z } from 'zod'
import { Name } from './primitives.ts'

/** Bytes of a request for a certificate in PEM: one of RSA with 4096 bits and twenty names has 3 KiB. */
const MAX_REQUEST_BYTES = 8 * 1024
const MAX_ADDRESSES = 20
/** Agents that were ever revoked. */
const MAX_REVOKED = 4000

const AgentName = { kind: z.enum(['mount', 'target']), name: Name }

const CertificateRequest = z
  .string()
  .max(MAX_REQUEST_BYTES)
  .describe('PKCS #10, PEM; its subject is the user of the agent, CN=howdah-KIND-NAME')

const Addresses = z
  .array(z.string().regex(/^[A-Za-z0-9_:](?:[A-Za-z0-9._:-]{0,251}[A-Za-z0-9_:])?$/))
  .max(MAX_ADDRESSES)
  .optional()
  .describe('host names and IP addresses by which target servers reach a mount agent')

export const CertifyBody = z.strictObject({
  ...AgentName,
  csr: CertificateRequest,
  addresses: Addresses,
  again: z.boolean().optional().describe('also if the agent was revoked; it is enrolled again then'),
})

/** An invitation is usable for that long, in seconds. */
export const INVITATION_SECONDS = { least: 60, most: 7 * 86_400 } as const

export const InviteBody = z.strictObject({
  ...AgentName,
  invitation: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .describe('a random id of the one who invites; the user of the invitation is howdah-invite-ID'),
  csr: z
    .string()
    .max(MAX_REQUEST_BYTES)
    .describe('PKCS #10, PEM, for the key of the invitation; its subject is CN=howdah-invite-ID'),
  ttlSeconds: z.int().min(INVITATION_SECONDS.least).max(INVITATION_SECONDS.most),
  addresses: Addresses,
  again: z.boolean().optional().describe('also if the agent was revoked; it is enrolled again when it joins'),
})

export const JoinBody = z.strictObject({ csr: CertificateRequest })

export const RevokeBody = z.strictObject(AgentName)

export const RenewBody = z.object({ ...AgentName, csr: CertificateRequest })

export const RevocationsWantedBody = z.object(AgentName)

export const CERTIFIED = {
  certificate: z.string().describe('PEM'),
  ca: z.string().describe('the certificate of the authority that signed it, PEM'),
}

/** All that is revoked: a later version replaces an earlier one. */
export const RevocationList = z.object({
  version: z.int().min(0),
  revoked: z
    .array(
      z.object({
        user: z.string().max(100).describe('of the agent in its first enrolment, howdah-KIND-NAME'),
        before: z
          .int()
          .min(2)
          .describe('the enrolments before this one are revoked, which is howdah-KIND-NAME.NUMBER'),
      }),
    )
    .max(MAX_REVOKED),
})
export type RevocationList = z.infer<typeof RevocationList>
