/** `howdah forget`: for a session or an agent whose machine will never come back. */
import type { Bus } from '../../../messages/bus.ts'
import { HowdahError } from '../../../messages/errors.ts'
import type { AgentView } from '../../../messages/values.ts'
import { printJson } from '../context.ts'
import type { Deadline } from '../deadline.ts'
import { count } from '../format.ts'
import {
  askingOptions,
  type CommandOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
  messageIdOption,
} from '../options.ts'
import { ask, resolveSession, sendCommand } from '../request.ts'
import { printable } from '../terminal.ts'
import { type Call, defineVerb } from '../verb.ts'

interface ForgetOptions extends CommandOptions {
  readonly sessions?: true
  readonly yes?: true
}

export const forget = defineVerb<ForgetOptions>({
  name: 'forget',
  summary: 'remove a session or an agent whose machine will never come back',
  description: [
    'A session is closed as if everything of it had been undone. An agent is removed from "howdah agents", with its ' +
      'queue and the commands in it. What is left on the machine stays there. What is connected is not forgotten: ' +
      '"howdah unpublish" removes a session with everything that belongs to it.',
    'It asks before it does so; without a terminal it needs --yes.',
  ],
  arguments: [
    {
      name: 'SESSION|AGENT',
      required: true,
      description:
        'A session by its id or a beginning of it, or an agent by its name, like db-7; if several have that name, like ' +
        'target.db-7 or mount.db-7.',
    },
  ],
  options: [
    { flags: '--sessions', description: 'Of a target: forget its sessions, too.' },
    { flags: '--yes', description: 'Do not ask. For scripts.' },
    jsonOption('Print {"accepted": true, "session": …} or {"accepted": true, "sessions": […]}.'),
    messageIdOption,
    ...askingOptions('a minute'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah forget main-x7', 'A session on a target that burnt down.'],
    ['howdah forget db-7 --sessions', 'That target, with all its sessions.'],
  ],
  run: runForget,
})

type Subject =
  | { readonly session: string; readonly agent?: never }
  | { readonly agent: Pick<AgentView, 'kind' | 'name'>; readonly session?: never }

async function runForget(call: Call<ForgetOptions>): Promise<number> {
  const { context, options, argument, deadline } = call
  await using connection = await call.connect()
  const { bus } = connection
  const subject = await findSubject(bus, argument, deadline)
  await confirm(call, subject)
  const { messageId } = options
  const sending = { deadline, options: messageId === undefined ? {} : { messageId } }
  if (subject.session !== undefined) {
    const reply = await sendCommand(bus, 'session.forget', { session: subject.session }, sending)
    if (options.json === true) printJson(context, reply)
    else context.stdout.line(`session ${subject.session} is forgotten`)
    return 0
  }
  const body = { ...subject.agent, ...(options.sessions === true && { sessions: true }) }
  const reply = await sendCommand(bus, 'agent.forget', body, sending)
  const { kind, name } = subject.agent
  const sessions =
    reply.sessions.length === 0 ? '' : `, and ${count(reply.sessions.length, 'session')} with it`
  if (options.json === true) printJson(context, reply)
  else context.stdout.line(`the ${kind} agent ${printable(name)} is forgotten${sessions}`)
  return 0
}

/** @throws HowdahError `unknown_session` when there is neither, `configuration` when there are several */
async function findSubject(bus: Bus, text: string, deadline: Deadline): Promise<Subject> {
  const { agents } = await ask(bus, 'agent.list', {}, deadline.asking())
  const found = agents.filter(({ kind, name }) => text === name || text === `${kind}.${name}`)
  const session = await resolveSession(bus, text, deadline).catch((error: unknown) => error)
  const subjects = [
    ...(typeof session === 'string' ? [`the session ${session}`] : []),
    ...found.map(({ kind, name }) => `the agent ${kind}.${name}`),
  ]
  const [agent] = found
  if (subjects.length > 1) {
    const which = subjects.join(' or ')
    throw new HowdahError('configuration', `"${text}" may be ${which}; write it as it is shown here`)
  }
  if (agent) return { agent: { kind: agent.kind, name: agent.name } }
  if (typeof session === 'string') return { session }
  throw session
}

/** @throws HowdahError `cancelled` when the answer is no, `configuration` when nobody can be asked */
async function confirm(
  { context, options }: Pick<Call<ForgetOptions>, 'context' | 'options'>,
  { session, agent }: Subject,
): Promise<void> {
  if (options.yes === true) return
  const what = session === undefined ? `the ${agent.kind} agent ${agent.name}` : `the session ${session}`
  const { question } = context
  if (question === undefined) {
    throw new HowdahError('configuration', `there is no terminal to ask on: --yes forgets ${what} without`)
  }
  const others = options.sessions === true ? ', with all its sessions' : ''
  if (!(await question(`Forget ${printable(what)}${others}? What is left on its machine stays there.`))) {
    throw new HowdahError('cancelled', 'nothing was forgotten')
  }
}
