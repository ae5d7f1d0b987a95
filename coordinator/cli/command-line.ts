/** From arguments to exit status: selects the verb, shows help, and reports errors as text and as JSON. */
import { Command, CommanderError } from 'commander'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import { type Context, printJsonFailure } from './context.ts'
import { overview, verbHelp } from './help-text.ts'
import { Interruption, interruptionOf } from './interruption.ts'
import { HELP, ROLES } from './pages.ts'
import { errorLines } from './session-lines.ts'
import { printable } from './terminal.ts'
import { UsageError } from './usage-error.ts'
import { synopsis, type VerbDescription } from './verb-description.ts'
import { pagesOf } from './verb-group.ts'
import { findVerb, loadVerbs, VERB_NAMES } from './verbs.ts'

/**
 * Runs a command line without the program's name. Resolves to the exit status: 0 done, 1 failed, 2 wrong usage, after a
 * signal 128 and its number.
 */
export async function runCommandLine(
  context: Context,
  args: readonly string[],
  version: string,
): Promise<number> {
  const [first, ...rest] = args
  let name: string | undefined
  try {
    if (first === undefined) {
      for (const line of await overviewLines(context)) context.stderr.line(line)
      return 2
    }
    if (first === '--version' || first === '-V') {
      context.stdout.line(rest.includes('--json') ? JSON.stringify({ version }) : `howdah ${version}`)
      return 0
    }
    if (first === 'help' || first === '--help' || first === '-h') return await help(context, rest)
    const { verb, rest: given } = await findVerb(args)
    name = verb?.name
    const end = given.indexOf('--')
    const flags = end < 0 ? given : given.slice(0, end)
    if (flags.includes('--help') || flags.includes('-h')) return await help(context, [name ?? first])
    if (verb === undefined) throw unknownVerb(first)
    return await verb.start(context, given)
  } catch (error) {
    return fail(context, error, name ?? (first === HELP.name ? first : undefined), args.includes('--json'))
  }
}

async function help(context: Context, args: readonly string[]): Promise<number> {
  const words = args.filter((arg) => !arg.startsWith('-')).flatMap((arg) => arg.split(' '))
  const [first] = words
  const page = first === undefined ? undefined : await pageOf(words)
  if (first !== undefined && page === undefined) throw unknownVerb(first)
  const lines = page === undefined ? await overviewLines(context) : verbHelp(context.stdout, page)
  for (const line of lines) context.stdout.line(line)
  return 0
}

/** Undefined: there is no such verb. */
async function pageOf(words: readonly string[]): Promise<VerbDescription | undefined> {
  if (words[0] === HELP.name) return HELP
  const { verb } = await findVerb(words)
  return verb && (await pagesOf(verb))[0]
}

async function overviewLines({ stdout }: Context): Promise<string[]> {
  return overview(stdout, [
    ['ALL IN ONE', await loadVerbs(['up'])],
    ['INVENTORY', await loadVerbs(['backups', 'sessions', 'show', 'watch', 'agents', 'adopt', 'doctor'])],
    [
      'PUBLISHING',
      await loadVerbs([
        ...(['check', 'publish', 'republish', 'promote', 'advance'] as const),
        ...(['retry', 'cancel', 'extend', 'unpublish', 'forget'] as const),
      ]),
    ],
    ['EXPORT', await loadVerbs(['export', 'rescue'])],
    ['ROLES', ROLES],
    [
      'FLEET',
      await loadVerbs(['fleet', 'agent', 'authority', 'broker', 'certificates', 'audit', 'dead-letters']),
    ],
    ['MORE', [HELP, ...(await loadVerbs(['man', 'completion']))]],
  ])
}

/** Commander suggests the verb that was probably meant. */
function unknownVerb(name: string): UsageError {
  const command = new Command('howdah')
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .helpOption(false)
  const names = [...VERB_NAMES, HELP.name, ...ROLES.map(({ name: role }) => role)]
  for (const known of names) command.command(known)
  try {
    command.parse([name], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) {
      const [, ...hints] = error.message.split('\n')
      if (name.startsWith('-'))
        return new UsageError(`the verb comes first, then its options: not ${printable(name)}`)
      return new UsageError([`there is no verb "${printable(name)}"`, ...hints].join(' '))
    }
    throw error
  }
  return new UsageError(`there is no verb "${printable(name)}"`)
}

/** @param verb that ran, or could not; undefined: none is known */
function fail(context: Context, error: unknown, verb: string | undefined, json: boolean): number {
  const { stderr } = context
  const program = verb === undefined ? 'howdah' : `howdah ${verb}`
  if (error instanceof UsageError) {
    if (json) printJsonFailure(context, { code: error.code, message: error.message })
    stderr.line(`${program}: ${printable(error.message)}`)
    for (const hint of error.hints) stderr.line(`  ${hint}`)
    if (error.verb !== undefined) stderr.line(`Usage: ${synopsis(error.verb)}`)
    stderr.line(`See "${program} --help".`)
    return 2
  }
  const interruption = error instanceof Interruption ? error : interruptionOf(context.interrupted)
  if (interruption !== undefined) {
    if (json) printJsonFailure(context, interruption.toBody())
    stderr.line(`${program}: ${interruption.message}`)
    return interruption.exitStatus
  }
  const body = errorBody(error)
  if (json) printJsonFailure(context, body)
  stderr.line(`${program} failed`)
  for (const line of errorLines(stderr, body)) stderr.line(line)
  if (
    !(error instanceof HowdahError) &&
    context.env.HOWDAH_LOG_LEVEL !== undefined &&
    error instanceof Error
  ) {
    stderr.line(error.stack ?? '')
  }
  return 1
}
