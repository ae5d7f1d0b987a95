/** Owns the broker of a test fleet: a virtual host of the test run's broker, or one of the fleet's own between hosts. */
import { pino } from 'pino'
import { restartBroker, testVhost } from './broker.ts'
import { MACHINE } from './host-layout.ts'
import type { Hosts } from './hosts.ts'
import { startTestBroker } from './rabbitmq.ts'

export interface FleetBroker {
  readonly url: string
  restart(options?: { crash?: boolean }): Promise<void>
  remove(): Promise<void>
}

const HEARTBEAT_SECONDS = 2

/** A virtual host of the test run's broker. */
export async function sharedBroker(): Promise<FleetBroker> {
  return { ...(await testVhost()), restart: restartBroker }
}

/** A broker that the hosts reach, and whose clients notice within seconds when they do not. On failure it removes the hosts. */
export async function ownBroker(directory: string, hosts: Hosts): Promise<FleetBroker> {
  try {
    const logger = pino({ level: 'silent' })
    const broker = await startTestBroker({ directory, address: hosts.address(MACHINE), logger })
    return {
      url: `${broker.url}?heartbeat=${HEARTBEAT_SECONDS}`,
      restart: (how) => broker.restart(how),
      remove: () => broker.stop(),
    }
  } catch (error) {
    await hosts.remove()
    throw error
  }
}
