/** `howdah agents`: lists the agents that have registered. */

import { formatBytes } from '../../../messages/format-bytes.ts'
import type { AgentView } from '../../../messages/values.ts'
import { type Context, printJson } from '../context.ts'
import { count, formatAge } from '../format.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
} from '../options.ts'
import { ask } from '../request.ts'
import { renderTable } from '../table.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'

/** Before a certificate expires: by then it was to be renewed several times over. */
const WARNING_MS = 14 * 86_400_000

export const agents = defineVerb<ClientOptions>({
  name: 'agents',
  summary: 'list the agents, and whether they are online',
  description: [
    'One line per agent that has ever registered: mount agents with the repositories that they serve, target ' +
      'agents with the PostgreSQL versions that they can publish and with their limits, which are the number of ' +
      'concurrent sessions and the total size of their write caches.',
    'CERTIFICATE is when the certificate of an agent expires. Agents renew theirs by themselves when a third of its time ' +
      'is left; those that expire within 14 days are listed below. "revoked": an operator shut the agent out.',
    'Below: the orphans of each target, which are sessions of which something is left there although the coordinator ' +
      'knows none. "howdah adopt" takes them over, or removes them.',
  ],
  options: [jsonOption('Print {"agents": […]} as one JSON document.'), ...askingOptions('a minute')],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [['howdah agents', 'The NAME of a target is what "howdah publish --target" takes.']],
  run: runAgents,
})

async function runAgents({ context, options, deadline, connect }: Call<ClientOptions>): Promise<number> {
  await using connection = await connect()
  const reply = await ask(connection.bus, 'agent.list', {}, deadline.asking())
  if (options.json === true) printJson(context, { agents: reply.agents })
  else if (reply.agents.length === 0) context.stdout.line('No agent has registered yet.')
  else
    for (const line of [
      ...agentTable(context, reply.agents),
      ...certificateLines(context, reply.agents),
      ...orphanLines(reply.agents),
    ])
      context.stdout.line(line)
  return 0
}

function agentTable({ stdout, now }: Pick<Context, 'stdout' | 'now'>, rows: readonly AgentView[]): string[] {
  return renderTable(
    stdout,
    [
      { title: 'KIND', value: ({ kind }) => kind },
      { title: 'NAME', value: ({ name }) => name },
      {
        title: 'STATE',
        value: ({ online, revoked }) => (revoked ? 'revoked' : online ? 'online' : 'offline'),
        style: (text, { online }) => stdout.style(online ? 'green' : 'red', text),
      },
      { title: 'SEEN', value: ({ lastSeen }) => formatAge(new Date(lastSeen), now()), align: 'right' },
      { title: 'HOST', value: ({ host }) => printable(host), minimum: 8, expendable: 1 },
      { title: 'VERSION', value: ({ version }) => printable(version), expendable: 2 },
      {
        title: 'CERTIFICATE',
        value: ({ certificate }) => (certificate ? formatAge(new Date(certificate.notAfter), now()) : ''),
        expendable: 2,
      },
      { title: 'LIMITS', value: limitsText, minimum: 10, expendable: 1 },
      { title: 'SERVES', value: servesText, minimum: 12 },
    ],
    rows,
  )
}

/** Whose certificates are not renewed although they expire soon. */
function certificateLines(
  { stdout, now }: Pick<Context, 'stdout' | 'now'>,
  agents: readonly AgentView[],
): string[] {
  const lines = agents.flatMap(({ kind, name, certificate, revoked }) => {
    const end = Date.parse(certificate?.notAfter ?? '')
    if (revoked || !(end - now().getTime() < WARNING_MS)) return []
    const verb = end > now().getTime() ? 'expires' : 'expired'
    return [`  ${kind} agent ${printable(name)}: ${verb} ${formatAge(new Date(end), now())}`]
  })
  if (lines.length === 0) return []
  return [
    '',
    stdout.style('yellow', 'Certificates that are not renewed; the log of the agent says why:'),
    ...lines,
  ]
}

/** What is left on targets of sessions that nobody knows, and what to do about it. */
function orphanLines(agents: readonly AgentView[]): string[] {
  const lines = agents.flatMap(({ name, orphans = [] }) =>
    orphans.map((session) => `  howdah adopt ${printable(session)} --target ${printable(name)}`),
  )
  return lines.length === 0 ? [] : ['', 'Orphans, to be taken over, or removed with --remove:', ...lines]
}

function limitsText({ limits }: AgentView): string {
  if (limits === undefined) return ''
  const { sessions, cacheBytes } = limits
  const parts = [
    ...(sessions === null ? [] : [count(sessions, 'session')]),
    ...(cacheBytes === null ? [] : [`${formatBytes(cacheBytes)} of changes`]),
  ]
  return parts.length === 0 ? 'no limit' : parts.join(', ')
}

function servesText({ repositories = [], postgresVersions = [] }: AgentView): string {
  return [
    ...repositories.map(({ name, format }) => `${name} (${format})`),
    ...(postgresVersions.length === 0 ? [] : [`PostgreSQL ${postgresVersions.map(printable).join(', ')}`]),
  ].join(', ')
}
