/** What the actions of `howdah agent` on the agent's own machine have in common. */
import { HowdahError } from '../../../../messages/errors.ts'
import { chooseSupervisor } from '../../../fleet/host/choose-supervisor.ts'
import { agentsOfHost } from '../../../fleet/host/host-agents.ts'
import { AGENT_KINDS, type AgentKind, type HostPaths, hostPaths } from '../../../fleet/host/host-paths.ts'
import { type HostReport, note } from '../../../fleet/host/report.ts'
import type { Supervisor } from '../../../fleet/host/supervisor.ts'
import { type Context, printJson } from '../../context.ts'
import { jsonOption, parseName } from '../../options.ts'
import { InvalidValue } from '../../usage-error.ts'
import type { Call } from '../../verb.ts'
import type { Entry, OptionDescription } from '../../verb-description.ts'

export const kindOption: OptionDescription = {
  flags: '--kind <KIND>',
  description: 'target or mount.',
  required: true,
  choices: AGENT_KINDS,
  parse: parseKind,
}

/** Of actions that make an agent. */
export const nameOption: OptionDescription = {
  flags: '--name <NAME>',
  description: 'Name of the agent in the fleet.',
  required: true,
  parse: parseName,
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

/**
 * Carries out an action on each chosen agent of this host, and prints what it did.
 * @param act whether anything changed
 */
export async function onEachAgent(
  { context, options: { kind, json } }: Call<AnyKindOptions>,
  done: string,
  act: (supervisor: Supervisor, kind: AgentKind) => Promise<boolean>,
): Promise<number> {
  const host = openHost()
  const report: HostReport = { changed: [], kept: [] }
  for (const one of chosenKinds(host, kind))
    note(report, `${one} agent: ${done}`, await act(host.supervisor, one))
  printReport(context, report, json)
  return 0
}

/** @returns whether it did not run before */
export async function startAgent(supervisor: Supervisor, kind: AgentKind): Promise<boolean> {
  const isRunning = (await supervisor.process(kind)) !== undefined
  await supervisor.start(kind)
  return !isRunning
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
