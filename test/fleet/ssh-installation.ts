/** Owns an installation in this process, so that it waits for the agent only as long as a test needs. The coordinator is the fleet's own. */
import { pino } from 'pino'
import { brokerAccess } from '../../config/tls.ts'
import { startDeadline } from '../../coordinator/cli/deadline.ts'
import { fleetOf } from '../../coordinator/cli/remote/fleet.ts'
import { openBundle } from '../../coordinator/fleet/install/bundle.ts'
import { checkHost } from '../../coordinator/fleet/install/host-check.ts'
import {
  type AgentRequest,
  installAgent,
  type StepName,
} from '../../coordinator/fleet/install/install-agent.ts'
import { rootShell } from '../../coordinator/fleet/ssh/elevation.ts'
import { createSecrets } from '../../coordinator/fleet/ssh/secrets.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bundle } from '../support/bundle.ts'
import type { EnrollingFleet } from '../support/enrolling-fleet.ts'
import type { Operator } from './ssh-operator.ts'

export interface InstallationOptions {
  readonly fleet: EnrollingFleet
  readonly operator: Operator
  /** As `user@host`. */
  readonly host: string
  readonly bundle: Bundle
  readonly kind: AgentRequest['kind']
  readonly name: string
  readonly onlineMs: number
  /** Called when a step has ended, before the next one begins. */
  readonly onStep: (step: StepName) => void
}

/** @throws HowdahError as `installAgent` */
export async function installHere(options: InstallationOptions): Promise<void> {
  const { fleet, operator, host, kind, name, onlineMs, onStep } = options
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
      ...{ connection, root, rootProblem: '', kind, reach: [], neededBytes: 0, signal },
      now: () => new Date(),
    })
    let current: StepName = 'upload'
    await installAgent({
      ...{ host, root, facts, signal, onlineMs },
      bundle: await openBundle(options.bundle.file, []),
      request: { kind, name, brokers: [url], advertise: undefined, repositories: [] },
      fleet: fleetOf(bus, deadline),
      narrator: {
        begin(step) {
          current = step
        },
        progress: () => undefined,
        end: () => onStep(current),
      },
    })
  } finally {
    await bus.close()
  }
}
