/**
 * A verb of the command line: its description together with what it does. Commander parses the arguments; its errors
 * become usage errors that name the flag and show the correct form.
 */
import { Command, CommanderError, Option } from 'commander'
import type { OperatorConnection } from '../../messages/operator-connection.ts'
import type { BrokerFlags } from './broker-url.ts'
import type { BrokerConnection, Context } from './context.ts'
import { type Deadline, startDeadline } from './deadline.ts'
import { InvalidValue, UsageError } from './usage-error.ts'
import { type OptionDescription, optionForm, type VerbDescription } from './verb-description.ts'

export interface Call<Options> {
  readonly context: Context
  readonly options: Options
  /** Of the whole call. */
  readonly deadline: Deadline
  /**
   * Connects to the broker that the options name, within the deadline.
   * @throws HowdahError `configuration` (no broker named) | `broker_unavailable` | `timeout` | `interrupted`
   */
  connect(): Promise<BrokerConnection>
  /** As `connect`, for work on queues themselves. */
  connectOperator(): Promise<OperatorConnection>
  /** The first argument; empty when there is none. */
  readonly argument: string
  /** The arguments after it. */
  readonly further: readonly string[]
}

export interface Verb<Options = never> extends VerbDescription {
  /** Resolves to the exit status. */
  run(call: Call<Options>): Promise<number>
}

/** A verb as the command line runs it: the type of its options is hidden. */
export interface RunnableVerb extends VerbDescription {
  /** @throws UsageError before anything is done */
  start(context: Context, args: readonly string[]): Promise<number>
}

export function defineVerb<Options>(verb: Verb<Options>): RunnableVerb {
  return {
    ...verb,
    start: (context, args) => {
      const { options, given } = parseArguments(verb, args)
      const [argument = '', ...further] = given
      const deadline = startDeadline(context.interrupted, options.timeout as number | undefined)
      const flags = options as BrokerFlags
      const connect = () => connectWithin(deadline.signal, () => context.connect(flags))
      const connectOperator = () => connectWithin(deadline.signal, () => context.connectOperator(flags))
      return verb.run({
        context,
        options: options as Options,
        deadline,
        connect,
        connectOperator,
        argument,
        further,
      })
    },
  }
}

/** A connection that comes too late is closed. */
async function connectWithin<T extends AsyncDisposable>(
  signal: AbortSignal,
  connect: () => Promise<T>,
): Promise<T> {
  signal.throwIfAborted()
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  signal.addEventListener('abort', onAbort)
  const connecting = connect()
  try {
    return await Promise.race([connecting, aborted])
  } catch (error) {
    connecting.then(
      (late) => late[Symbol.asyncDispose](),
      () => {},
    )
    throw error
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

function parseArguments(verb: VerbDescription, args: readonly string[]) {
  const command = new Command(verb.name)
    .exitOverride()
    .configureOutput({ writeErr: () => {}, writeOut: () => {} })
    .helpOption(false)
    .allowExcessArguments(false)
  for (const { name, required } of verb.arguments ?? [])
    command.argument(required ? `<${name}>` : `[${name}]`)
  for (const description of verb.options) command.addOption(commanderOption(description, verb))
  try {
    command.parse([...args], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) throw usageErrorOf(error, verb)
    throw error
  }
  const options: Record<string, unknown> = command.opts()
  const missing = verb.options.filter(
    (option) => option.required === true && options[new Option(option.flags).attributeName()] === undefined,
  )
  if (missing.length > 0) {
    throw new UsageError(`missing ${missing.map(optionForm).join(', ')}`, verb)
  }
  return { options, given: command.args }
}

function commanderOption(description: OptionDescription, verb: VerbDescription): Option {
  const option = new Option(description.flags, description.description)
  const parse = (text: string): unknown => {
    try {
      return description.parse === undefined ? text : description.parse(text)
    } catch (error) {
      if (!(error instanceof InvalidValue)) throw error
      const value = description.secret === true ? 'the value' : `"${text}"`
      throw new UsageError(`${optionForm(description)}: ${value} is wrong, it must be ${error.message}`, verb)
    }
  }
  if (description.repeatable === true) {
    option.default([])
    option.argParser((text: string, previous: unknown) => [...(previous as unknown[]), parse(text)])
  } else if (description.flags.includes('<')) {
    option.argParser((text: string, previous: unknown) => {
      if (previous !== undefined) throw new UsageError(`${optionForm(description)} is given twice`, verb)
      return parse(text)
    })
  }
  return option
}

function usageErrorOf(error: CommanderError, verb: VerbDescription): UsageError {
  const [message = '', ...hints] = error.message.replace(/^error: /, '').split('\n')
  return new UsageError([message.replace(/[<>]/g, ''), ...hints].join(' '), verb)
}
