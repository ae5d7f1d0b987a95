/** Owns an installation or an upgrade in this process, which waits for the agent only as long as a test needs. The coordinator is the fleet's own. */
import { pino } from 'pino'
import { brokerAccess } from '../../config/tls.ts'
import { startDeadline } from '../../coordinator/cli/deadline.ts'
import { fleetOf } from '../../coordinator/cli/remote/fleet.ts'
import { type Bundle as OpenedBundle, openBundle } from '../../coordinator/fleet/install/bundle.ts'
import { type ChangingFleet, upgradeHost } from '../../coordinator/fleet/install/change-version.ts'
import { checkHost } from '../../coordinator/fleet/install/host-check.ts'
import type { HostFacts } from '../../coordinator/fleet/install/host-facts.ts'
import {
  type AgentRequest,
  installAgent,
  type StepName,
} from '../../coordinator/fleet/install/install-agent.ts'
import { type RootShell, rootShell } from '../../coordinator/fleet/ssh/elevation.ts'
import { createSecrets } from '../../coordinator/fleet/ssh/secrets.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bundle } from '../support/bundle.ts'
import type { EnrollingFleet } from '../support/enrolling-fleet.ts'
import type { Operator } from './ssh-operator.ts'

export interface HostOptions {
  readonly fleet: EnrollingFleet
  readonly operator: Operator
  /** As `user@host`. */
  readonly host: string
  readonly bundle: Bundle
}

export interface InstallationOptions extends HostOptions {
  readonly kind: AgentRequest['kind']
  readonly name: string
  readonly onlineMs: number
  /** Called when a step has ended, before the next one begins. */
  readonly onStep: (step: StepName) => void
}

/** @throws HowdahError as `installAgent` */
export function installHere(options: InstallationOptions): Promise<void> {
  const { host, kind, name, onlineMs, onStep } = options
  return onHost(options, async ({ root, facts, bundle, url, fleet, signal }) => {
    let current: StepName = 'upload'
    await installAgent({
      ...{ host, root, facts, signal, onlineMs, bundle, fleet },
      request: { kind, name, brokers: [url], advertise: undefined, repositories: [] },
      narrator: {
        begin(step) {
          current = step
        },
        progress: () => undefined,
        end: () => onStep(current),
      },
    })
  })
}

/** @throws HowdahError as `upgradeHost` */
export function upgradeHere(options: HostOptions & { readonly healthyMs: number }): Promise<boolean> {
  const { host, healthyMs } = options
  return onHost(options, ({ root, facts, bundle, fleet, signal }) =>
    upgradeHost({ ...{ host, root, facts, fleet, signal, healthyMs }, progress: () => undefined }, bundle),
  )
}

interface Opened {
  readonly root: RootShell
  readonly facts: HostFacts
  readonly bundle: OpenedBundle
  /** Of the broker. */
  readonly url: string
  readonly fleet: ChangingFleet
  readonly signal: AbortSignal
}

async function onHost<T>(options: HostOptions, work: (opened: Opened) => Promise<T>): Promise<T> {
  const { fleet, operator, host } = options
  const deadline = startDeadline(new AbortController().signal)
  const { signal } = deadline
  const env = fleet.environment(fleet.operator)
  const url = env.HOWDAH_BROKER_URL ?? ''
  const { cert, key } = fleet.operator
  const access = brokerAccess({ urls: [url], ca: `${fleet.tls}/ca.pem`, certificate: cert, key })
  const bus = await connectBus({
    ...access,
    ...{ appId: 'test', role: 'client', logger: pino({ level: 'silent' }) },
  })
  try {
    const connection = await operator.connect(host)
    const secrets = createSecrets(undefined)
    const root = await rootShell(connection, {
      ...{ become: undefined, secrets, note: () => undefined, signal },
    })
    const { facts } = await checkHost({
      ...{ connection, root, rootProblem: '', kind: undefined, reach: [], neededBytes: 0, signal },
      now: () => new Date(),
    })
    const bundle = await openBundle(options.bundle.file, [])
    return await work({ root, facts, bundle, url, fleet: fleetOf(bus, deadline), signal })
  } finally {
    await bus.close()
  }
}
