/**
 * The versions of the contract that a process understands, and the one that a message needs. What is added to the contract
 * needs no new version as long as a receiver may ignore it; the header `howdah-version` of a message is the oldest version
 * whose receivers do what the message says. Pure.
 */
import { CONTRACT_VERSION, OLDEST_CONTRACT_VERSION } from './definitions.ts'

/** Versions from `oldest` to `newest`, both included. */
export interface ContractRange {
  readonly oldest: number
  readonly newest: number
}

export const OWN_RANGE: ContractRange = { oldest: OLDEST_CONTRACT_VERSION, newest: CONTRACT_VERSION }

/** Agents did not say it before version 2. */
const UNSAID: ContractRange = { oldest: 1, newest: 1 }

/** Something that a message may ask for, and that a receiver before this version would ignore although it must not. */
export interface Feature {
  readonly since: number
  used(type: string, body: unknown): boolean
}

/** In the order of their versions. There is none since the oldest version that is understood. */
const FEATURES: readonly Feature[] = []

/** The version that a receiver must understand to do what the message says. */
export function neededVersion(type: string, body: unknown, features = FEATURES): number {
  const used = features.filter((feature) => feature.used(type, body)).map(({ since }) => since)
  return Math.max(OLDEST_CONTRACT_VERSION, ...used)
}

/** Whether this process understands a message with this value of the header. Simple clients set headers as text only. */
export function isUnderstood(header: unknown, { oldest, newest }: ContractRange = OWN_RANGE): boolean {
  const version = typeof header === 'string' && /^[0-9]{1,9}$/.test(header) ? Number(header) : header
  return typeof version === 'number' && Number.isInteger(version) && version >= oldest && version <= newest
}

interface Agent {
  readonly kind: string
  readonly name: string
  readonly host: string
  /** The release of Howdah that it runs. */
  readonly version: string
  readonly contract?: ContractRange | undefined
}

/** Why an agent cannot be sent a message that needs this version, with what to do; undefined: it can. */
export function incompatibility(agent: Agent, needed: number): string | undefined {
  const { kind, name, host, version, contract = UNSAID } = agent
  if (needed >= contract.oldest && needed <= contract.newest) return undefined
  const runs = `the ${kind} agent "${name}" on ${host} runs Howdah ${version} with contract ${contract.newest}; this needs ${needed}`
  return needed > contract.newest
    ? `${runs}: upgrade the agent`
    : `${runs}, which it takes no longer: upgrade the coordinator`
}
