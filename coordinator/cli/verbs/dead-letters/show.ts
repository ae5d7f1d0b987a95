/** `howdah dead-letters show`. */
import { printJson } from '../../context.ts'
import { formatTimeFully } from '../../format.ts'
import {
  askingOptions,
  type ClientOptions,
  clientEnvironment,
  clientExitStatus,
  clientFiles,
  jsonOption,
} from '../../options.ts'
import { fieldLines } from '../../session-lines.ts'
import { printable } from '../../terminal.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { bodyOf, idArgument, wholeDocument } from './letter.ts'

export const show = defineVerb<ClientOptions>({
  name: 'dead-letters show',
  summary: 'show one of them, with its headers and its body',
  description: ['The dead letter stays where it is.'],
  arguments: [idArgument],
  options: [
    jsonOption(
      'Print it as one JSON document, with "headers" and "body"; a body that is no text is in base64.',
    ),
    ...askingOptions('none'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [['howdah dead-letters show 3f9a0c51b7de', 'Why it is there, who sent it, and what it says.']],
  run: runShow,
})

async function runShow({
  context,
  options,
  argument,
  deadline,
  connectOperator,
}: Call<ClientOptions>): Promise<number> {
  await using operator = await connectOperator()
  const letter = await operator.deadLetters.find(argument, deadline.signal)
  if (options.json === true) {
    printJson(context, wholeDocument(letter))
    return 0
  }
  const { at, content, headers, originalBytes } = letter
  const fields: (readonly [string, string | undefined])[] = [
    ['reason', letter.reason],
    ['since', at && formatTimeFully(at, context.now())],
    ['type', letter.type],
    ['message id', letter.messageId],
    ['session', letter.session],
    ['sent to', letter.exchange && `${letter.exchange}, routing key ${letter.routingKey ?? ''}`],
    ['was in', letter.queue],
    ['sender', letter.user ?? letter.application],
    ['put here by', letter.reportedBy],
    ['headers', JSON.stringify(headers)],
    ['bytes', originalBytes === undefined ? `${content.length}` : `${content.length} of ${originalBytes}`],
  ]
  const shown = fields.flatMap(([name, value]) => (value ? [[name, printable(value)] as const] : []))
  for (const line of fieldLines(context.stdout, shown)) context.stdout.line(line)
  const body = bodyOf(content)
  context.stdout.line(typeof body === 'string' ? printable(body) : JSON.stringify(body, undefined, 2))
  return 0
}
