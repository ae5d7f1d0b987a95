/** `howdah agent status`: what of Howdah is on this host, and whether it runs. */
import { hostStatus } from '../../../fleet/host/host-agents.ts'
import { printJson } from '../../context.ts'
import { jsonOption } from '../../options.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { type AnyKindOptions, anyKindOption, openHost } from './host-action.ts'

const NOT_RUNNING = 3

export const status = defineVerb<AnyKindOptions>({
  name: 'agent status',
  summary: "show this host's agents and the installed versions",
  description: [
    'Shows the agents that are set up on this host, whether each runs and in which version, and the versions that are ' +
      'installed, with the number of their processes: mount processes go on in the version that they were started with. ' +
      '"howdah agents" asks the coordinator, which knows whether an agent is online.',
  ],
  options: [
    anyKindOption,
    jsonOption(
      'Print {"agents": [{"kind", "state", "pid", "version"}, …], "supervisor", "installedBy", "current", ' +
        '"previous", "versions": [{"version", "processes"}, …]} as one JSON document.',
    ),
  ],
  exitStatus: [
    ['0', 'The agents run.'],
    ['1', 'Failed; the reason and its code are on stderr, and with --json on stdout as {"error": …}.'],
    ['2', 'Wrong usage.'],
    ['3', 'An agent does not run, or none is set up here.'],
  ],
  environment: [],
  files: [],
  examples: [['howdah agent status', 'All that are set up here.']],
  run: runStatus,
})

async function runStatus({ context, options: { kind, json } }: Call<AnyKindOptions>): Promise<number> {
  const { paths, supervisor } = openHost()
  const all = await hostStatus(paths, supervisor)
  const agents = all.agents.filter((agent) => kind === undefined || agent.kind === kind)
  if (json === true) printJson(context, { ...all, agents })
  else {
    const { stdout } = context
    for (const agent of agents) {
      const of = agent.version === undefined ? '' : `, version ${agent.version}`
      const process = agent.pid === undefined ? '' : ` (process ${agent.pid}${of})`
      stdout.line(`${agent.kind} agent: ${agent.state}${process}`)
    }
    stdout.line(`supervised by ${all.supervisor}, installed by ${all.installedBy}`)
    for (const { version, processes } of all.versions) {
      const role = version === all.current ? 'current' : version === all.previous ? 'previous' : 'old'
      stdout.line(`version ${version}: ${role}, ${processes} processes`)
    }
  }
  const running = agents.filter(({ state }) => state === 'running')
  return agents.length > 0 && running.length === agents.length ? 0 : NOT_RUNNING
}
