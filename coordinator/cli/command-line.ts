/** From arguments to exit status: picks the verb, shows help, and says what went wrong in words and as JSON. */
import { Command, CommanderError } from 'commander'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import { type Context, printJson } from './context.ts'
import { overview, verbHelp } from './help-text.ts'
import { errorLines } from './session-lines.ts'
import { printable } from './terminal.ts'
import { synopsis, UsageError, type VerbDescription } from './verb.ts'
import { advance } from './verbs/advance.ts'
import { agents } from './verbs/agents.ts'
import { backups } from './verbs/backups.ts'
import { cancel } from './verbs/cancel.ts'
import { certificates } from './verbs/certificates.ts'
import { check } from './verbs/check.ts'
import { exportVerb } from './verbs/export.ts'
import { extend } from './verbs/extend.ts'
import { promote } from './verbs/promote.ts'
import { publish } from './verbs/publish.ts'
import { republish } from './verbs/republish.ts'
import { rescue } from './verbs/rescue.ts'
import { retry } from './verbs/retry.ts'
import { sessions } from './verbs/sessions.ts'
import { show } from './verbs/show.ts'
import { unpublish } from './verbs/unpublish.ts'
import { up } from './verbs/up.ts'
import { watch } from './verbs/watch.ts'

const HELP: VerbDescription = {
  name: 'help',
  summary: 'show all about one verb, or this overview',
  description: ['Shows the manual page of a verb. Without VERB, an overview of all verbs.'],
  arguments: [{ name: 'VERB', required: false, description: 'A verb of howdah.' }],
  options: [],
  exitStatus: [
    ['0', 'Done.'],
    ['2', 'There is no such verb.'],
  ],
  environment: [],
  files: [],
  examples: [['howdah help publish', 'The page of "howdah publish".']],
}

/** The roles in the overview; their own mains have their pages. */
const ROLES = [
  { name: 'coordinator', summary: 'run the coordinator: takes commands, plans sessions' },
  { name: 'mount-agent', summary: 'run a mount agent: serves backup repositories to target servers' },
  { name: 'target-agent', summary: 'run a target agent: mounts backups and runs published instances' },
] as const

/** Verbs that are run here; the roles are the launcher's. */
export const VERBS = [
  ...[up, backups, check, publish, rescue],
  ...[sessions, show, watch, exportVerb, republish, promote, advance, extend, retry, cancel, unpublish],
  ...[agents, certificates],
] as const

/** Everything that has a page. */
const PAGES: readonly VerbDescription[] = [...VERBS, HELP]

/** Runs a command line without the program's name. Resolves to the exit status: 0 done, 1 failed, 2 wrong usage. */
export async function runCommandLine(
  context: Context,
  args: readonly string[],
  version: string,
): Promise<number> {
  const [first, ...rest] = args
  try {
    if (first === undefined) {
      for (const line of overviewLines(context)) context.stderr.line(line)
      return 2
    }
    if (first === '--version' || first === '-V') {
      context.stdout.line(rest.includes('--json') ? JSON.stringify({ version }) : `howdah ${version}`)
      return 0
    }
    if (first === 'help' || first === '--help' || first === '-h') return help(context, rest)
    const verb = VERBS.find(({ name }) => name === first)
    const end = rest.indexOf('--')
    const flags = end < 0 ? rest : rest.slice(0, end)
    if (flags.includes('--help') || flags.includes('-h')) return help(context, [first])
    if (verb === undefined) throw unknownVerb(first)
    return await verb.start(context, rest)
  } catch (error) {
    return fail(context, error, first, args.includes('--json'))
  }
}

function help(context: Context, args: readonly string[]): number {
  const name = args.find((arg) => !arg.startsWith('-'))
  const page = PAGES.find((candidate) => candidate.name === name)
  if (name !== undefined && page === undefined) throw unknownVerb(name)
  const lines = page === undefined ? overviewLines(context) : verbHelp(context.stdout, page)
  for (const line of lines) context.stdout.line(line)
  return 0
}

function overviewLines({ stdout }: Context): string[] {
  return overview(stdout, [
    ['EVERYTHING ON THIS MACHINE', [up]],
    ['WHAT THERE IS', [backups, sessions, show, watch, agents]],
    ['PUBLISHING', [check, publish, republish, promote, advance, retry, cancel, extend, unpublish]],
    ['TAKING DATA OUT', [exportVerb, rescue]],
    ['ROLES', [...ROLES, certificates]],
    ['MORE', [HELP]],
  ])
}

/** Commander finds the verb that was meant. */
function unknownVerb(name: string): UsageError {
  const command = new Command('howdah')
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .helpOption(false)
  for (const { name: known } of [...PAGES, ...ROLES]) command.command(known)
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

function fail(context: Context, error: unknown, first: string | undefined, json: boolean): number {
  const { stderr } = context
  const page = PAGES.find(({ name }) => name === first)
  const program = page === undefined ? 'howdah' : `howdah ${page.name}`
  if (error instanceof UsageError) {
    if (json) printJson(context, { error: { code: 'configuration', message: error.message } })
    stderr.line(`${program}: ${printable(error.message)}`)
    for (const hint of error.hints) stderr.line(`  ${hint}`)
    if (error.verb !== undefined) stderr.line(`Usage: ${synopsis(error.verb)}`)
    stderr.line(`"${program} --help" tells more.`)
    return 2
  }
  if (context.interrupted.aborted) {
    if (json) printJson(context, { error: { code: 'timeout', message: 'interrupted' } })
    stderr.line(`${program}: interrupted`)
    return 130
  }
  const body = errorBody(error)
  if (json) printJson(context, { error: body })
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
