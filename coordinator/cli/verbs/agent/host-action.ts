/** What the actions of `howdah agent` on the agent's own machine have in common. */
import { HowdahError } from '../../../../messages/errors.ts'
import { chooseSupervisor } from '../../../fleet/host/choose-supervisor.ts'
import { agentsOfHost } from '../../../fleet/host/host-agents.ts'
import { AGENT_KINDS, type AgentKind, type HostPaths, hostPaths } from '../../../fleet/host/host-paths.ts'
import type { HostReport } from '../../../fleet/host/report.ts'
import type { Supervisor } from '../../../fleet/host/supervisor.ts'
import { type Context, printJson } from '../../context.ts'
import { jsonOption } from '../../options.ts'
import { InvalidValue } from '../../usage-error.ts'
import type { Entry, OptionDescription } from '../../verb-description.ts'

export const kindOption: OptionDescription = {
  flags: '--kind <KIND>',
  description: 'target or mount.',
  required: true,
  choices: AGENT_KINDS,
  parse: parseKind,
}

function parseKind(text: string): AgentKind {
  const kind = AGENT_KINDS.find((one) => one === text)
  if (kind === undefined) throw new InvalidValue(AGENT_KINDS.join(' or '))
  return kind
}

export const hostExitStatus: readonly Entry[] = [
  ['0', 'Done.'],
  ['1', 'Failed; the reason and its code are on stderr, and with --json on stdout as {"error": …}.'],
  ['2', 'Wrong usage; nothing was done.'],
]

/** Of actions on those agents that are set up here. */
export const anyKindOption: OptionDescription = {
  ...kindOption,
  description: 'target or mount.',
  required: false,
  defaultText: 'those that are set up on this host',
}

export interface AnyKindOptions {
  readonly kind?: AgentKind
  readonly json?: true
}

/** Each action on a host: root's, with the supervisor that this host has. */
export interface HostAccess {
  readonly paths: HostPaths
  readonly supervisor: Supervisor
}

/** @throws HowdahError `configuration` for another user than root */
export function openHost(): HostAccess {
  if (process.geteuid?.() !== 0)
    throw new HowdahError('configuration', 'this changes the host and needs root; run it with sudo')
  const paths = hostPaths()
  return { paths, supervisor: chooseSupervisor(paths) }
}

/** @throws HowdahError `unknown_agent` when there is none */
export function chosenKinds({ paths }: HostAccess, kind: AgentKind | undefined): readonly AgentKind[] {
  const kinds = agentsOfHost(paths)
  const chosen = kind === undefined ? kinds : kinds.filter((one) => one === kind)
  if (chosen.length > 0) return chosen
  const which = kind === undefined ? 'agent' : `${kind} agent`
  throw new HowdahError('unknown_agent', `no ${which} is set up on this host; "howdah agent setup" does it`)
}

export const reportOption = jsonOption(
  'Print {"changed": […], "kept": […]} as one JSON document: what was done, and what was right already or is not ' +
    'changed, then with the reason.',
)

export function printReport(context: Context, report: HostReport, json: true | undefined): void {
  if (json === true) printJson(context, report)
  else {
    for (const what of report.changed) context.stdout.line(`changed  ${what}`)
    for (const what of report.kept) context.stdout.line(`kept     ${what}`)
  }
}
