/** `howdah dead-letters retry`. */
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

interface RetryOptions extends ClientOptions {
  readonly all?: true
}

export const retry = defineVerb<RetryOptions>({
  name: 'dead-letters retry',
  summary: 'send one of them, or all, to where they came from',
  description: [
    'Publishes the message to the exchange and with the routing key that it had, under its own message id, and ' +
      'removes the dead letter once RabbitMQ has the message. If it is ended in between, the dead letter is still there, ' +
      'and what is sent a second time is known by its message id.',
    'A command is then a command of the user who retries it. A message that breaks the contract becomes a dead letter ' +
      'again. Not sent again: what is kept in part only, and what its sender or who put it there had no right to send.',
  ],
  arguments: [{ ...idArgument, required: false }],
  options: [
    allOption,
    jsonOption('Print {"retried": N, "failed": [{"id", "error"}, …]}.'),
    ...askingOptions('none'),
  ],
  exitStatus: clientExitStatus,
  environment: clientEnvironment,
  files: clientFiles,
  examples: [
    ['howdah dead-letters retry 3f9a0c51b7de', 'After what kept it from being handled was mended.'],
    ['howdah dead-letters retry --all', 'All that are there now.'],
  ],
  run: runRetry,
})

async function runRetry({
  context,
  options,
  argument,
  deadline,
  connectOperator,
}: Call<RetryOptions>): Promise<number> {
  requireWhich(argument, options.all)
  const { stdout, stderr } = context
  await using operator = await connectOperator()
  const { deadLetters } = operator
  if (options.all === undefined) {
    const { type, exchange } = await deadLetters.retry(argument, deadline.signal)
    if (options.json === true) printJson(context, { retried: 1, failed: [] })
    else stdout.line(printable(`${type ?? 'the message'} is in ${exchange} again`))
    return 0
  }
  const { retried, failed } = await deadLetters.retryAll(deadline.signal)
  if (options.json === true) printJson(context, { retried, failed })
  else stdout.line(`${count(retried, 'message')} sent again, ${failed.length} left`)
  for (const { error } of failed)
    stderr.line(printable(`howdah dead-letters retry: ${error.code}: ${error.message}`))
  return failed.length === 0 ? 0 : 1
}
