/** Where a published instance listens, and what clients of it are told. Pure. */
import { hostname } from 'node:os'
import { HowdahError } from '../../../../messages/errors.ts'
import type { InstanceSpec } from '../specification.ts'

type Listening = Pick<InstanceSpec, 'listen'>

const LOCAL = new Set(['localhost', '127.0.0.1', '::1'])
const ANY = new Set(['*', '0.0.0.0', '::'])
/** Host names and addresses, of IPv6 also with a zone; nothing that a list would have to quote. */
const ADDRESS = /^(?:\*|[A-Za-z0-9_.:%-]+)$/

/** `listen_addresses`. @throws HowdahError `configuration` for what is no address */
export function listenAddresses({ listen = [] }: Listening): string {
  const wrong = listen.find((address) => !ADDRESS.test(address))
  if (wrong !== undefined)
    throw new HowdahError(
      'configuration',
      `"${wrong}" is no address to listen on: give host names, IP addresses, or *.`,
      { field: 'listen' },
    )
  return listen.length === 0 ? 'localhost' : listen.join(',')
}

/** Whether anybody but this machine can reach the instance. */
export function listensBeyond({ listen = [] }: Listening): boolean {
  return listen.some((address) => !LOCAL.has(address))
}

/** The host that clients connect to; undefined: by the socket directory, for the instance listens locally only. */
export function clientHost({ listen = [] }: Listening): string | undefined {
  const beyond = listen.filter((address) => !LOCAL.has(address))
  return beyond.find((address) => !ANY.has(address)) ?? (beyond.length > 0 ? hostname() : undefined)
}
