/** `howdah adopt`: takes over, or removes, what is left of a session on a target. */
import { printJson } from '../context.ts'
import {
  askingOptions,
  type CommandOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  commandOptions,
  isSessionPrefix,
  jsonOption,
  parseName,
} from '../options.ts'
import { sendCommand } from '../request.ts'
import { UsageError } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface AdoptOptions extends CommandOptions {
  readonly target?: string
  readonly remove?: true
}

export const adopt = defineVerb<AdoptOptions>({
  name: 'adopt',
  summary: 'take over, or remove, an orphan: a session on a target that no session here knows',
  description: [
    'An orphan is what is left on a target of a session that the coordinator does not know, since its store was ' +
      'restored or lost, or the session was forgotten. "howdah agents" lists the orphans of each target.',
    'Adopting takes the session over as it is published, with all its changes. With --remove it is unpublished ' +
      'instead, and everything of it is removed with every change. "howdah watch" follows either.',
  ],
  arguments: [{ name: 'SESSION', required: true, description: 'Id of the orphan, in full.' }],
  options: [
    { flags: '--target <NAME>', description: 'The target that has it. Required.', parse: parseName },
    { flags: '--remove', description: 'Remove it with all its changes.' },
    jsonOption('Print {"accepted": true, "session": …} as one JSON document.'),
    ...commandOptions,
    ...askingOptions('a minute'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah adopt main-x7 --target db-7', 'Take the session over.'],
    ['howdah adopt main-x7 --target db-7 --remove', 'Remove what is left of it.'],
  ],
  run: runAdopt,
})

async function runAdopt(call: Call<AdoptOptions>): Promise<number> {
  const { context, options, argument, deadline, connect } = call
  const { target, remove = false } = options
  if (target === undefined) throw new UsageError('--target is missing: the target that has the orphan')
  if (!isSessionPrefix(argument)) throw new UsageError(`"${argument}" is no session id`)
  await using connection = await connect()
  const body = { session: argument, target, ...(remove && { remove }) }
  const reply = await sendCommand(connection.bus, 'session.adopt', body, { deadline, options })
  if (options.json === true) printJson(context, reply)
  else
    context.stdout.line(
      remove ? `Removing ${reply.session} from ${target}.` : `Took over ${reply.session} on ${target}.`,
    )
  return 0
}
