/** `howdah dead-letters list`. */
import { printJson } from '../../context.ts'
import { formatAge } from '../../format.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
} from '../../options.ts'
import { renderTable } from '../../table.ts'
import { printable } from '../../terminal.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { letterDocument } from './letter.ts'

export const list = defineVerb<ClientOptions>({
  name: 'dead-letters list',
  summary: 'list them, oldest first, each with its reason',
  description: ['One line per dead letter. None is removed, and each keeps its place in the queue.'],
  options: [
    jsonOption(
      'Print {"deadLetters": [{"id", "reason", "at", "type", "messageId", "session", "exchange", "routingKey", "queue", "user", "application", "reportedBy"}, …]}.',
    ),
    ...askingOptions('none'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [['howdah dead-letters list', 'The ID is what the other actions take.']],
  run: runList,
})

async function runList({
  context,
  options,
  deadline,
  connectOperator,
}: Call<ClientOptions>): Promise<number> {
  await using operator = await connectOperator()
  const letters = await operator.deadLetters.list(deadline.signal)
  const { stdout, now } = context
  if (options.json === true) printJson(context, { deadLetters: letters.map(letterDocument) })
  else if (letters.length === 0) stdout.line('There are no dead letters.')
  else {
    const lines = renderTable(
      stdout,
      [
        { title: 'ID', value: ({ id }) => id },
        {
          title: 'AGE',
          value: ({ at }) => (at ? formatAge(at, now()).replace(/ ago$/, '') : ''),
          align: 'right',
        },
        { title: 'TYPE', value: ({ type }) => printable(type ?? ''), minimum: 12 },
        {
          title: 'SENDER',
          value: ({ user, application }) => printable(user ?? application ?? ''),
          minimum: 10,
          expendable: 1,
        },
        { title: 'QUEUE', value: ({ queue }) => printable(queue ?? ''), minimum: 12, expendable: 3 },
        { title: 'SESSION', value: ({ session }) => printable(session ?? ''), expendable: 2 },
        { title: 'REASON', value: ({ reason }) => printable(reason), minimum: 20 },
      ],
      letters,
    )
    for (const line of lines) stdout.line(line)
  }
  return 0
}
