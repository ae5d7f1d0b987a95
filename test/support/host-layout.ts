/** Owns what the hosts of a test are called on the machine: namespaces, devices and addresses. Changes nothing. */
import { execFile } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The machine itself, where the tests and what they start directly are. */
export const MACHINE = 'machine'

/** The device of a host that leads to the bridge, within its namespace. */
export const HOST_DEVICE = 'eth0'

export interface HostLayout {
  readonly names: readonly string[]
  readonly bridge: string
  namespace(host: string): string
  /** The end of a host's link that is on the machine. */
  outerLink(host: string): string
  /** @throws Error when there is no such host */
  address(host: string): string
  /** The device by which the host reaches the others. */
  device(host: string): string
  /** Runs `ip` in the namespace of a host. */
  ip(host: string, ...args: string[]): Promise<void>
}

/** A network of which the machine has no other route than the default one is chosen for them. */
export async function layOutHosts(names: readonly string[]): Promise<HostLayout> {
  const suffix = randomBytes(3).toString('hex')
  const subnet = await freeSubnet()
  const bridge = `howdah-${suffix}`
  const namespace = (host: string): string => `howdah-${suffix}-${host}`

  function index(host: string): number {
    const at = names.indexOf(host)
    if (at < 0) throw new Error(`there is no host ${host}`)
    return at
  }

  return {
    names,
    bridge,
    namespace,
    outerLink: (host) => `howdah${suffix}${names.indexOf(host)}`,
    address: (host) => `${subnet}.${host === MACHINE ? 1 : 2 + index(host)}`,
    device: (host) => (host === MACHINE ? bridge : HOST_DEVICE),
    async ip(host, ...args) {
      await run('ip', host === MACHINE ? args : ['-n', namespace(host), ...args])
    },
  }
}

async function freeSubnet(): Promise<string> {
  for (let tries = 0; tries < 50; tries++) {
    const subnet = `10.${randomInt(1, 255)}.${randomInt(0, 255)}`
    const { stdout } = await run('ip', ['-j', 'route', 'show', 'match', `${subnet}.1`])
    const routes = JSON.parse(stdout) as { dst: string }[]
    if (routes.every(({ dst }) => dst === 'default')) return subnet
  }
  throw new Error('no private network is free on this machine')
}

/** Collects failures, except those of what is not there, which iproute2 reports by its message only. */
export function ignoreMissing(failures: unknown[]): (error: unknown) => void {
  return (error) => {
    const { stderr = '' } = error as { stderr?: string }
    if (!/Cannot find device|No such (file|process)/.test(stderr)) failures.push(error)
  }
}
