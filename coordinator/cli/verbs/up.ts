/** `howdah up`: everything on this machine, in the foreground, until Ctrl-C. */
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RepositoryConfig } from '../../../config/formats.ts'
import type { CommonConfig } from '../../../config/schema.ts'
import { type Context, printJson } from '../context.ts'
import { count, formatDuration } from '../format.ts'
import { clientExitStatus, defaultStateDirectory, jsonOption, parseBrokerUrl } from '../options.ts'
import { ask } from '../request.ts'
import { fieldLines } from '../session-lines.ts'
import type { Machine } from '../up/machine.ts'
import { openSessions } from '../up/own-sessions.ts'
import {
  checkPaths,
  joinFlags,
  type LinkTarget,
  type PassphraseFile,
  parseLinkTarget,
  parsePassphraseFile,
  parseRepository,
} from '../up/repository-flags.ts'
import { UsageError } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface UpOptions {
  readonly json?: true
  readonly repository: readonly RepositoryConfig[]
  readonly passphraseFile: readonly PassphraseFile[]
  readonly linkTarget: readonly LinkTarget[]
  readonly state?: string
  readonly broker?: string
  readonly config?: string
  readonly console?: true
  readonly unpublishOnExit?: true
}

const UNPUBLISH_DEADLINE_MS = 120_000

export const up = defineVerb<UpOptions>({
  name: 'up',
  summary: 'run everything on this machine in the foreground',
  description: [
    'Starts a coordinator, a mount agent and a target agent, both named "local", and a private RabbitMQ unless ' +
      '--broker or --config names another. Certificates and configuration files are created in the state directory. A process ' +
      'that dies is restarted.',
    'Ctrl-C stops everything in order. Sessions stay published: their PostgreSQL keeps running, reads of data ' +
      'that was not fetched yet wait, and the next "howdah up" with the same state directory adopts the sessions. ' +
      'A second Ctrl-C stops at once.',
  ],
  options: [
    {
      flags: '--repository <NAME=FORMAT:PATH>',
      description:
        'Backup repository to publish from. NAME is the value of "howdah publish --repository"; FORMAT is ' +
        'pgbackrest, barman or basebackup; PATH is the directory of the repository, which is only read, or, for ' +
        'pgbackrest and barman, the configuration file of the tool.',
      repeatable: true,
      defaultText: 'those of the last "howdah up" with this state directory',
      parse: parseRepository,
    },
    {
      flags: '--passphrase-file <NAME=FILE>',
      description: 'File with the passphrase of the encrypted repository NAME.',
      repeatable: true,
      parse: parsePassphraseFile,
    },
    {
      flags: '--link-target <NAME=DIR>',
      description: 'Directory outside of repository NAME that symbolic links in it may point to.',
      repeatable: true,
      parse: parseLinkTarget,
    },
    {
      flags: '--state <DIR>',
      description: 'Directory for everything that must persist, used by one "howdah up" at a time.',
      defaultText: '/var/lib/howdah for root, $XDG_STATE_HOME/howdah or ~/.local/state/howdah for others',
      parse: (text) => path.resolve(text),
    },
    {
      flags: '--broker <URL>',
      description: 'Broker to use: amqp://user:password@host:port/vhost, or amqps:// for TLS.',
      defaultText: 'a private RabbitMQ',
      secret: true,
      parse: parseBrokerUrl,
    },
    {
      flags: '--config <FILE>',
      description:
        'Configuration file that names the broker to use, with its TLS files (broker.urls, broker.ca, …): a password in ' +
        'it is not in the command line.',
      parse: (text) => path.resolve(text),
    },
    {
      flags: '--console',
      description:
        'Run the console of the private RabbitMQ (its plugin rabbitmq_management), on this machine only: its address is ' +
        'printed, its user and password are in STATE/console.json.',
    },
    {
      flags: '--unpublish-on-exit',
      description:
        'Before stopping, unpublish the sessions on the target of this "howdah up", with their changes. Those of other ' +
        'targets on the same broker are left alone.',
    },
    jsonOption(
      'Print {"ready": true, "broker": URL, "state": DIR}, with --console also "console": URL, on one line once everything runs, and nothing else on ' +
        'stdout. The URL has no user and no password: STATE/up.json has them.',
    ),
  ],
  exitStatus: [
    ['0', 'Stopped by SIGINT, SIGTERM or SIGHUP.'],
    [
      '1',
      'A component could not be started; the message names it and the reason, and the others were stopped.',
    ],
    ...clientExitStatus.slice(2),
  ],
  environment: [
    [
      'HOWDAH_BROKER_URL',
      'Refused: it may name the broker of a whole fleet. --broker and --config name one for "howdah up".',
    ],
    ['HOWDAH_STATE', 'State directory, as --state.'],
    [
      'HOWDAH_BROKER_CA, HOWDAH_BROKER_CERTIFICATE, HOWDAH_BROKER_KEY',
      'TLS files for an amqps:// broker (PEM).',
    ],
    [
      'HOWDAH_LOG_LEVEL',
      'Log level of the roles: fatal, error, warn, info, debug or trace. Default: info. If set, "howdah up" itself also logs JSON lines on stderr.',
    ],
    [
      'HOWDAH_…',
      'Other variables configure the roles; see their --help. Examples: HOWDAH_MOUNT_ROOT, HOWDAH_CACHE_ROOT.',
    ],
  ],
  files: [
    ['STATE/up.json', 'Broker of the running "howdah up", for the other verbs; readable by its owner only.'],
    ['STATE/console.json', 'With --console: {"url", "user", "password"}; readable by its owner only.'],
    ['STATE/log/', 'One log of JSON lines per role; warnings are shown on stderr too.'],
    ['STATE/config/', 'The configuration of each role, rewritten at every start.'],
    ['STATE/tls/', 'Certificates and keys of the data plane.'],
    ['/tmp/howdah/SESSION', 'Mounted backups.'],
    ['/var/tmp/howdah/SESSION', 'Write caches.'],
  ],
  examples: [
    ['howdah up --repository prod=pgbackrest:/var/lib/pgbackrest', 'Publish from one repository.'],
    [
      'howdah up --state ./state --repository a=basebackup:/backups --unpublish-on-exit',
      'Try Howdah and leave nothing published.',
    ],
  ],
  run: runUp,
})

async function runUp({ context, options }: Call<UpOptions>): Promise<number> {
  const begun = context.now()
  const stateDirectory = path.resolve(
    options.state ?? context.env.HOWDAH_STATE ?? defaultStateDirectory(context.env, process.getuid?.() ?? 0),
  )
  const { readPrevious } = await import('../up/role-files.ts')
  const given = joinFlags(options.repository, options.passphraseFile, options.linkTarget)
  const repositories = given.length > 0 ? given : (readPrevious(stateDirectory)?.repositories ?? [])
  checkPaths(repositories)
  const { environmentProblem } = await import('../../../config/environment.ts')
  const unknown = environmentProblem(context.env)
  if (unknown !== undefined) throw new UsageError(unknown, undefined, [], 'configuration')
  const broker = await chosenBroker(context, options)
  if (options.console && broker !== undefined) {
    throw new UsageError('--console is for the private RabbitMQ, and another broker is named', up)
  }

  // Loaded on demand, so that the other verbs and usage errors start fast.
  const { openStateDirectory } = await import('../up/state-directory.ts')
  const { startMachine } = await import('../up/machine.ts')
  const { createLogger, withoutCredentials } = await import('../../../config/logger.ts')
  const { connectTo } = await import('../connect.ts')
  const state = openStateDirectory(stateDirectory)
  try {
    const log = createLogger('up', context.env.HOWDAH_LOG_LEVEL ?? 'silent')
    const remark = (text: string) => context.stderr.line(context.stderr.style('dim', text))
    const notice = (text: string) => {
      context.stderr.line(`${context.stderr.style('yellow', context.stderr.marks.warning)} ${text}`)
    }
    if (repositories.length === 0) {
      notice('no --repository is given: there is nothing to publish until "howdah up" is started with one')
    }
    const machine = await startMachine({
      state,
      repositories,
      broker,
      console: options.console === true,
      env: context.env,
      logger: log,
      onNotice: notice,
      onStep: remark,
      connect: (used) => connectTo(used, 'howdah-up', log),
      signal: context.interrupted,
      forceStop: context.forceStop,
    })
    if (options.json === true) {
      printJson(context, {
        ready: true,
        broker: withoutCredentials(machine.brokerUrls),
        state: stateDirectory,
        ...(machine.console && { console: machine.console.url }),
      })
    } else {
      const took = formatDuration(context.now().getTime() - begun.getTime())
      for (const line of readyLines(context, stateDirectory, repositories, machine.console, took))
        context.stdout.line(line)
    }
    if (!context.interrupted.aborted) await once(context.interrupted, 'abort')
    remark('stopping')
    await closeOrListSessions(context, machine, options.unpublishOnExit === true, notice)
    await machine.stop()
    return 0
  } finally {
    state.release()
  }
}

/**
 * The broker that a flag names; undefined: a private one. What the environment names is for clients, and may be the broker
 * of a whole fleet.
 * @throws UsageError
 */
async function chosenBroker(
  context: Pick<Context, 'env' | 'loadBroker'>,
  { broker: url, config: file }: Pick<UpOptions, 'broker' | 'config'>,
): Promise<CommonConfig['broker'] | undefined> {
  if (url === undefined && file === undefined) {
    if (!context.env.HOWDAH_BROKER_URL) return undefined
    throw new UsageError(
      'HOWDAH_BROKER_URL is set, and "howdah up" takes no broker from the environment',
      up,
      [
        'unset HOWDAH_BROKER_URL, for a private broker; client verbs would talk to the other one, too',
        '--broker URL or --config FILE names a broker that "howdah up" is to use',
      ],
    )
  }
  return context.loadBroker(file, url)
}

function readyLines(
  { stdout, env }: Context,
  state: string,
  repositories: readonly RepositoryConfig[],
  consoleOfBroker: Machine['console'],
  took: string,
): string[] {
  const isDefault = state === defaultStateDirectory(env, process.getuid?.() ?? 0)
  const flag = isDefault ? '' : ` --state ${state}`
  const first = repositories[0]?.name ?? 'NAME'
  return [
    `${stdout.style('green', 'Howdah is up')} after ${took}. Ctrl-C stops it; sessions stay published.`,
    ...fieldLines(stdout, [
      ...repositories.map(
        ({ name, format, path: location, configFile }) =>
          ['repository', `${name} (${format}, ${location ?? configFile})`] as const,
      ),
      ['state', state],
      ...(consoleOfBroker
        ? [
            [
              'console',
              `${consoleOfBroker.url}, user and password in ${consoleOfBroker.file}`,
              'whole',
            ] as const,
          ]
        : []),
      ['next', `howdah backups${flag}`, 'whole'],
      ['then', `howdah publish${flag} --repository ${first} --instance INSTANCE --target local`, 'whole'],
    ]),
  ]
}

/** Unpublishes the open sessions of this machine's target, or lists them. A coordinator that does not answer does not delay the exit. */
async function closeOrListSessions(
  { forceStop }: Context,
  { bus }: Machine,
  unpublish: boolean,
  notice: (text: string) => void,
): Promise<void> {
  const signal = AbortSignal.any([forceStop, AbortSignal.timeout(unpublish ? UNPUBLISH_DEADLINE_MS : 3000)])
  try {
    const open = await openSessions(bus, signal)
    if (open.length === 0) return
    if (!unpublish) {
      notice(`${count(open.length, 'session')} stay open for the next "howdah up": ${open.join(', ')}`)
      return
    }
    notice(`unpublishing ${open.join(', ')}`)
    await Promise.all(open.map((session) => ask(bus, 'session.unpublish', { session }, { signal })))
    while ((await openSessions(bus, signal)).length > 0) await sleep(250, undefined, { signal })
  } catch (error) {
    if (unpublish) {
      const reason = error instanceof Error ? error.message : String(error)
      notice(
        `sessions may still be published (${reason}); "howdah up" with the same state directory adopts them`,
      )
    }
  }
}
