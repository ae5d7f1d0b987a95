/** What is asked through an agent that has just come online, and how to go on with it. */
import type { Bus } from '../../../messages/bus.ts'
import { errorBody } from '../../../messages/errors.ts'
import type { AgentRequest } from '../../fleet/install/install-agent.ts'
import type { Deadline } from '../deadline.ts'
import { count } from '../format.ts'
import { ask } from '../request.ts'
import { printable } from '../terminal.ts'

export interface FirstCheck {
  /** The command that publishes there. */
  readonly publish: string
  readonly remarks: readonly string[]
}

/** The agents of one check may take up to a minute each. */
const CHECK_MS = 150_000

/** Lists what the mount agent serves, or checks a publish on the target. */
export async function firstCheck(bus: Bus, agent: AgentRequest, deadline: Deadline): Promise<FirstCheck> {
  const { repositories } = await ask(bus, 'inventory.list', {}, deadline.asking())
  const isOurs = ({ mountAgent }: { mountAgent: string }): boolean =>
    agent.kind === 'target' || mountAgent === agent.name
  const found = repositories
    .filter(isOurs)
    .flatMap(({ repository, instances }) => instances.map(({ instance }) => ({ repository, instance })))
  const target = agent.kind === 'target' ? agent.name : ((await onlineTarget(bus, deadline)) ?? 'TARGET')
  const [first] = found
  const { repository, instance } = first ?? { repository: 'REPOSITORY', instance: 'INSTANCE' }
  const publish = `howdah publish --repository ${printable(repository)} --instance ${printable(instance)} --target ${target}`
  if (agent.kind === 'mount') return { publish, remarks: [`It serves ${count(found.length, 'instance')}.`] }
  if (first === undefined)
    return {
      publish,
      remarks: ['No mount agent serves an instance yet, so nothing could be checked through it.'],
    }
  return { publish, remarks: [await checkPublish(bus, { repository, instance, target }, deadline)] }
}

async function checkPublish(
  bus: Bus,
  body: { repository: string; instance: string; target: string },
  deadline: Deadline,
): Promise<string> {
  const what = `${printable(body.instance)} of ${printable(body.repository)}`
  try {
    const { report } = await ask(bus, 'instance.check', body, {
      ...deadline.asking(CHECK_MS),
      tryMs: CHECK_MS,
    })
    const errors = report.findings.filter(({ level }) => level === 'error')
    if (errors.length === 0) return `Checked through it: ${what} can be published there.`
    return `Checked through it: ${what} cannot be published there: ${errors.map(({ message }) => printable(message)).join(' ')}`
  } catch (error) {
    return `The check through it failed: ${printable(errorBody(error).message)}`
  }
}

async function onlineTarget(bus: Bus, deadline: Deadline): Promise<string | undefined> {
  const { agents } = await ask(bus, 'agent.list', {}, deadline.asking())
  return agents.find(({ kind, online }) => kind === 'target' && online)?.name
}

/** Where mount agents that are online serve. */
export async function onlineDataPlanes(
  bus: Bus,
  deadline: Deadline,
): Promise<{ host: string; port: number }[]> {
  const { agents } = await ask(bus, 'agent.list', {}, deadline.asking())
  return agents.flatMap(({ online, dataPlane }) => (online && dataPlane !== undefined ? [dataPlane] : []))
}
