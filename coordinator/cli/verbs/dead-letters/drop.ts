/** `howdah dead-letters drop`. */
import { HowdahError } from '../../../../messages/errors.ts'
import { printJson } from '../../context.ts'
import { count } from '../../format.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
} from '../../options.ts'
import { printable } from '../../terminal.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { allOption, idArgument, requireWhich } from './letter.ts'

interface DropOptions extends ClientOptions {
  readonly all?: true
  readonly yes?: true
}

export const drop = defineVerb<DropOptions>({
  name: 'dead-letters drop',
  summary: 'remove one of them, or all, for good',
  description: ['It asks before it removes all of them; without a terminal that needs --yes.'],
  arguments: [{ ...idArgument, required: false }],
  options: [
    allOption,
    { flags: '--yes', description: 'Do not ask. For scripts.' },
    jsonOption('Print {"dropped": N}.'),
    ...askingOptions('none'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah dead-letters drop 3f9a0c51b7de', 'Exactly that one.'],
    ['howdah dead-letters drop --all --yes', 'All that are there now.'],
  ],
  run: runDrop,
})

async function runDrop(call: Call<DropOptions>): Promise<number> {
  const { context, options, argument, deadline } = call
  requireWhich(argument, options.all)
  if (options.all && !options.yes) await confirm(call)
  await using operator = await call.connectOperator()
  const { deadLetters } = operator
  let dropped = 1
  let what = ''
  if (options.all) {
    dropped = await deadLetters.dropAll(deadline.signal)
    what = count(dropped, 'dead letter')
  } else {
    const { id, type } = await deadLetters.drop(argument, deadline.signal)
    what = `the dead letter ${id}${type === undefined ? '' : ` (${type})`}`
  }
  if (options.json === true) printJson(context, { dropped })
  else context.stdout.line(printable(`dropped ${what}`))
  return 0
}

/** @throws HowdahError `cancelled` when the answer is no, `configuration` when nobody can be asked */
async function confirm({ context: { question } }: Call<DropOptions>): Promise<void> {
  if (question === undefined) {
    throw new HowdahError(
      'configuration',
      'there is no terminal to ask on: --yes drops all dead letters without',
    )
  }
  if (!(await question('Drop all dead letters? They cannot be brought back.'))) {
    throw new HowdahError('cancelled', 'nothing was dropped')
  }
}
