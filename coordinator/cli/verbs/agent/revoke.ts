/** `howdah agent revoke`: shuts an agent out of the fleet. */
import { HowdahError } from '../../../../messages/errors.ts'
import { AGENT_KINDS, type AgentKind } from '../../../fleet/host/host-paths.ts'
import { printJson } from '../../context.ts'
import { count } from '../../format.ts'
import {
  askingOptions,
  type CommandOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  messageIdOption,
  parseName,
} from '../../options.ts'
import { ask, sendCommand } from '../../request.ts'
import { printable } from '../../terminal.ts'
import { InvalidValue, UsageError } from '../../usage-error.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { kindOption } from './host-action.ts'

interface Options extends CommandOptions {
  readonly kind?: AgentKind
  readonly yes?: true
}

export const revoke = defineVerb<Options>({
  name: 'agent revoke',
  summary: 'shut an agent out of the fleet at once',
  description: [
    'Removes the user of the agent at the broker with its connections, and has mount agents refuse its certificates, ' +
      'all that it ever had. The sessions of a target become disrupted. What runs on its machine goes on there: nobody ' +
      'can tell it to stop any more. Operators only.',
    'The agent is enrolled again by "howdah agent install --again", under the same name and with a new identity.',
    'It asks before it does so; without a terminal it needs --yes.',
  ],
  arguments: [{ name: 'NAME', required: true, description: 'Name of the agent.' }],
  options: [
    {
      ...kindOption,
      description: 'target or mount, if there is one of each with that name.',
      required: false,
    },
    { flags: '--yes', description: 'Do not ask. For scripts.' },
    jsonOption('Print {"accepted": true, "sessions": […]}.'),
    messageIdOption,
    ...askingOptions('a minute'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [['howdah agent revoke db-7', 'That machine was stolen.']],
  run: runRevoke,
})

async function runRevoke(call: Call<Options>): Promise<number> {
  const { context, options, deadline } = call
  const name = nameOf(call)
  await using connection = await call.connect()
  const { bus } = connection
  const kind = options.kind ?? (await kindOf(call, name, bus))
  await confirm(call, `the ${kind} agent ${name}`)
  const { messageId } = options
  const sending = { deadline, options: messageId === undefined ? {} : { messageId } }
  const reply = await sendCommand(bus, 'agent.revoke', { kind, name }, sending)
  if (options.json === true) printJson(context, reply)
  else {
    const { length } = reply.sessions
    const sessions = length === 0 ? '' : `; ${count(length, 'session')} disrupted`
    context.stdout.line(`the ${kind} agent ${printable(name)} is revoked${sessions}`)
  }
  return 0
}

function nameOf({ argument }: Call<Options>): string {
  try {
    return parseName(argument)
  } catch (error) {
    if (error instanceof InvalidValue) throw new UsageError(`NAME: must be ${error.message}`, revoke)
    throw error
  }
}

/** @throws HowdahError `unknown_agent` | `configuration` when there is one of each kind */
async function kindOf(
  { deadline }: Call<Options>,
  name: string,
  bus: Parameters<typeof ask>[0],
): Promise<AgentKind> {
  const { agents } = await ask(bus, 'agent.list', {}, deadline.asking())
  const kinds = AGENT_KINDS.filter((kind) =>
    agents.some((agent) => agent.kind === kind && agent.name === name),
  )
  const [kind] = kinds
  if (kind === undefined) {
    throw new HowdahError(
      'unknown_agent',
      `no agent "${name}" ever registered; --kind revokes one that did not`,
    )
  }
  if (kinds.length > 1) {
    throw new HowdahError('configuration', `"${name}" may be a target or a mount agent; --kind says which`)
  }
  return kind
}

/** @throws HowdahError `cancelled` when the answer is no, `configuration` when nobody can be asked */
async function confirm({ context: { question }, options }: Call<Options>, agent: string): Promise<void> {
  if (options.yes === true) return
  if (question === undefined) {
    throw new HowdahError('configuration', `there is no terminal to ask on: --yes revokes ${agent} without`)
  }
  if (!(await question(`Revoke ${printable(agent)}? Its certificate is worth nothing any more.`))) {
    throw new HowdahError('cancelled', 'nothing was revoked')
  }
}
