/** `howdah agent check`: whether a server is fit for an agent, before anything is installed. */
import type { AgentKind } from '../../../fleet/host/host-paths.ts'
import type { Reachable } from '../../../fleet/install/check-script.ts'
import { checkHost } from '../../../fleet/install/host-check.ts'
import type { HostFinding } from '../../../fleet/install/host-findings.ts'
import { type Context, printJson, printJsonFailure } from '../../context.ts'
import { count } from '../../format.ts'
import { jsonOption, parsePort } from '../../options.ts'
import { hostAccess, hostsOf, shownHost } from '../../remote/host.ts'
import {
  SSH_DESCRIPTION,
  type SshOptions,
  sshEnvironment,
  sshFiles,
  sshOptions,
} from '../../remote/options.ts'
import { printable, wrap } from '../../terminal.ts'
import { InvalidValue } from '../../usage-error.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { kindOption } from './host-action.ts'

interface Options extends SshOptions {
  readonly kind?: AgentKind
  readonly reach: readonly Reachable[]
  readonly json?: true
}

/** Of a bundle that is unpacked beside the one before. */
export const NEEDED_BYTES = 600 * 1024 ** 2

export const check = defineVerb<Options>({
  name: 'agent check',
  summary: 'check over SSH whether a server is fit for an agent',
  description: [
    'Looks at a server in one pass, changes nothing, and shows all findings at once, each with what to do: system, ' +
      'architecture, C library, kernel, systemd, /dev/fuse, fusermount, what keeps instances apart, PostgreSQL, room, ' +
      'mount options, the clock, SELinux and AppArmor, whether addresses can be reached from there, and what of Howdah ' +
      'is there already.',
    SSH_DESCRIPTION,
  ],
  arguments: [{ name: 'HOST', required: true, description: 'The server.' }],
  options: [
    {
      ...kindOption,
      required: false,
      description: 'target or mount: the kind of agent that it is meant for.',
      defaultText: 'either',
    },
    {
      flags: '--reach <HOST:PORT>',
      description:
        'An address that must be reachable from there, as the broker or the data plane of a mount agent.',
      repeatable: true,
      parse: parseReach,
    },
    ...sshOptions,
    jsonOption(
      'Print {"host", "findings": [{"level", "check", "message"}, …]} as one JSON document; levels are ok, warning and error.',
    ),
  ],
  exitStatus: [
    ['0', 'An agent can be installed there; there may be warnings.'],
    ['1', 'It cannot, or the check failed.'],
    ['2', 'Wrong usage; nothing was done.'],
  ],
  environment: sshEnvironment,
  files: sshFiles,
  examples: [
    [
      'howdah agent check ops@db-7.example --kind target --reach rabbitmq.example:5671 --reach backup-1.example:7420',
      'A server that shall publish.',
    ],
    ['howdah agent check -J gate.example db-7', 'Through a jump host.'],
  ],
  run: runCheck,
})

async function runCheck({ context, options, argument, deadline }: Call<Options>): Promise<number> {
  const [address] = hostsOf([argument], check)
  if (address === undefined) return 2
  await using host = await hostAccess(context, deadline.signal).open(address, options)
  const { root, rootProblem, connection } = host
  const { findings } = await checkHost({
    ...{ connection, root, rootProblem, kind: options.kind, reach: options.reach },
    ...{ neededBytes: NEEDED_BYTES, now: context.now, signal: deadline.signal },
  })
  const document = { host: shownHost(address), findings }
  const error = problemOf(shownHost(address), findings)
  if (options.json === true && error !== undefined) printJsonFailure(context, error, document)
  else if (options.json === true) printJson(context, document)
  else for (const line of findingLines(context, findings)) context.stdout.line(line)
  return error === undefined ? 0 : 1
}

/** The error of findings that keep an agent off a server; undefined: there are none. */
export function problemOf(host: string, findings: readonly HostFinding[]) {
  const errors = findings.filter(({ level }) => level === 'error')
  if (errors.length === 0) return undefined
  return {
    code: 'preflight_failed' as const,
    message: `${host} is not fit for an agent: ${errors.map(({ message }) => message).join(' ')}`,
  }
}

export function findingLines(
  { stdout }: Pick<Context, 'stdout'>,
  findings: readonly HostFinding[],
): string[] {
  const { marks, style, columns } = stdout
  const shown = {
    ok: style('green', marks.done),
    warning: style('yellow', marks.warning),
    error: style('red', marks.failed),
  }
  const width = Math.max(...findings.map(({ check: name }) => name.length))
  const lines = findings.flatMap(({ level, check: name, message }) =>
    wrap(printable(message), columns - width - 4).map((text, index) =>
      index === 0 ? `${shown[level]} ${name.padEnd(width)}  ${text}` : `${' '.repeat(width + 4)}${text}`,
    ),
  )
  const numbers = (['error', 'warning'] as const).flatMap((level) => {
    const number = findings.filter((finding) => finding.level === level).length
    return number === 0 ? [] : [count(number, level)]
  })
  return [...lines, '', numbers.length === 0 ? 'An agent can be installed there.' : `${numbers.join(', ')}.`]
}

export function parseReach(text: string): Reachable {
  const [, bracketed, name, port = ''] = /^(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+)):(\d+)$/.exec(text) ?? []
  const host = bracketed ?? name
  if (host === undefined) throw new InvalidValue('like rabbitmq.example:5671')
  return { host, port: parsePort(port) }
}
