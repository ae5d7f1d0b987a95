/** The addresses on which a published instance listens, and the host that is reported to clients. Pure. */
import { hostname } from 'node:os'
import { HowdahError } from '../../../../messages/errors.ts'
import type { InstanceSpec } from '../specification.ts'

type Listening = Pick<InstanceSpec, 'listen'>

const LOCAL = new Set(['localhost', '127.0.0.1', '::1'])
const ANY = new Set(['*', '0.0.0.0', '::'])
/** Host names and addresses, including IPv6 zones; nothing that needs quotes in a list. */
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

/** Whether the instance can be reached from other machines. */
export function listensBeyond({ listen = [] }: Listening): boolean {
  return listen.some((address) => !LOCAL.has(address))
}

/** The host that clients connect to; undefined: the socket directory, as the instance listens locally only. */
export function clientHost({ listen = [] }: Listening): string | undefined {
  const beyond = listen.filter((address) => !LOCAL.has(address))
  return beyond.find((address) => !ANY.has(address)) ?? (beyond.length > 0 ? hostname() : undefined)
}
