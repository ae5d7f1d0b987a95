/**
 * A private RabbitMQ node for `howdah up`, the demo and the tests, from the installed rabbitmq-server package.
 *
 * Everything of it (data, logs, configuration, cookie, credentials) is in one directory, and it listens on one port
 * only, of the loopback unless told otherwise: Erlang distribution is off, so there is no epmd, no distribution port
 * and no rabbitmqctl.
 * What tests need of rabbitmqctl goes over its standard input; when that ends, because we died, the node stops by
 * itself. Touches neither the machine's own broker nor its configuration.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  access,
  chmod,
  copyFile,
  mkdir,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { HowdahError } from '../../messages/errors.ts'
import { freePort } from './free-port.ts'

/** The server script itself: /usr/sbin/rabbitmq-server of Debian switches to another user and to the system's paths. */
const SERVER_SCRIPT = '/usr/lib/rabbitmq/bin/rabbitmq-server'
/** Scripts that the server script calls. */
const SERVER_SCRIPTS = ['rabbitmq-server', 'rabbitmq-env', 'rabbitmq-defaults']
/** Libraries of plugins, none of which is enabled here. */
const PLUGIN_LIBRARIES = /^(rabbitmq_(?!prelaunch-)|cowboy-|cowlib-|eetcd-|gun-|jose-|prometheus-)/
const USER = 'howdah'
const LOOPBACK = '127.0.0.1'
const READY = 'howdah: ready'
/** An orderly stop takes a second or two, but never ends when nobody reads the node's output any more. */
const ORPHAN_STOP_MS = 4_000

export interface PrivateBrokerOptions {
  /** Made with mode 0700 when it is missing. The same directory keeps its queues, port and credentials. */
  readonly directory: string
  readonly logger: Logger
  /** The one address that it listens on. Default 127.0.0.1. */
  readonly address?: string
  /** Default: the one of the last start, else a free one. */
  readonly port?: number
  /** How long the node may take to come up. Default 120 s. */
  readonly startTimeoutMs?: number
}

export interface PrivateBroker {
  /** With credentials: not for logs. The same after `restart` and after another start in the same directory. */
  readonly url: string
  readonly pid: number
  /** Resolves when the node is gone, killed after 20 s if need be. Safe to repeat. */
  stop(): Promise<void>
  /** Stops the node, at once (`SIGKILL`) when `crash` is set, and starts it again on the same port. */
  restart(options?: { crash?: boolean }): Promise<void>
  /** Makes a virtual host that the same user may use, in some 20 ms; resolves to its URL. */
  createVirtualHost(name: string): Promise<string>
  deleteVirtualHost(name: string): Promise<void>
  /** Disk space below which the node takes no messages, in bytes: with more than there is, its disk alarm is on. */
  setDiskFreeLimit(bytes: number): Promise<void>
}

interface Identity {
  port: number
  password: string
}

/**
 * Starts the private node of a directory and waits until it accepts connections; a node that an earlier process left
 * there is stopped first.
 * @throws HowdahError `configuration` when RabbitMQ is not installed, `broker_unavailable` when it does not come up
 */
export async function startPrivateBroker(options: PrivateBrokerOptions): Promise<PrivateBroker> {
  const { logger, address = LOOPBACK, startTimeoutMs = 120_000 } = options
  await access(SERVER_SCRIPT).catch((cause: unknown) => {
    throw new HowdahError(
      'configuration',
      `RabbitMQ is not installed (${SERVER_SCRIPT} is missing): install the package rabbitmq-server, or name a broker with --broker`,
      { cause },
    )
  })
  await mkdir(options.directory, { recursive: true, mode: 0o700 })
  const directory = await realpath(options.directory)
  await stopOrphan(directory, logger)
  const identity = await prepare(directory, address, options.port, logger)
  const url = `amqp://${USER}:${identity.password}@${address}:${identity.port}`

  const script = await leanInstallation(directory)
  let node = await startNode(script, directory, startTimeoutMs, logger)
  /** Stops and restarts, one after another. */
  let queue: Promise<void> = Promise.resolve()
  const next = (work: () => Promise<void>): Promise<void> => {
    const done = queue.then(work)
    queue = done.catch(() => {}) // the caller has the error
    return done
  }
  return {
    url,
    get pid() {
      return node.pid
    },
    stop: () => next(() => stopNode(node, directory)),
    restart: ({ crash = false } = {}) =>
      next(async () => {
        if (crash) killGroup(node.pid, 'SIGKILL')
        await stopNode(node, directory)
        node = await startNode(script, directory, startTimeoutMs, logger)
      }),
    async createVirtualHost(name) {
      await node.command('vhost', name)
      return `${url}/${encodeURIComponent(name)}`
    },
    deleteVirtualHost: (name) => node.command('drop', name),
    setDiskFreeLimit: (bytes) => node.command('disk', String(bytes)),
  }
}

interface Node {
  readonly pid: number
  readonly child: ChildProcess
  command(verb: 'vhost' | 'drop' | 'disk', argument: string): Promise<void>
}

/**
 * The installed server without its plugins, and the path of its script: Erlang looks for every module in every library
 * in turn, and the plugins that are not used here would more than double the time that the node takes to start.
 */
async function leanInstallation(directory: string): Promise<string> {
  const scripts = dirname(await realpath(SERVER_SCRIPT))
  const libraries = join(dirname(scripts), 'plugins')
  const lean = join(directory, 'server')
  await rm(lean, { recursive: true, force: true })
  for (const made of ['sbin', 'plugins']) await mkdir(join(lean, made), { recursive: true })
  for (const name of SERVER_SCRIPTS) await copyFile(join(scripts, name), join(lean, 'sbin', name))
  for (const name of await readdir(libraries)) {
    if (!PLUGIN_LIBRARIES.test(name)) await symlink(join(libraries, name), join(lean, 'plugins', name))
  }
  return join(lean, 'sbin', 'rabbitmq-server')
}

/** Writes the configuration files; keeps port and password of an earlier start, because the node keeps its users. */
async function prepare(
  directory: string,
  address: string,
  wantedPort: number | undefined,
  logger: Logger,
): Promise<Identity> {
  const file = join(directory, 'broker.json')
  const earlier = await readFile(file, 'utf8').then(
    (text) => JSON.parse(text) as Identity,
    () => undefined,
  )
  const port = wantedPort ?? (await freePort(address, earlier?.port))
  if (wantedPort === undefined && earlier !== undefined && port !== earlier.port) {
    logger.warn({ taken: earlier.port, port }, 'the private broker moves to another port, its own is in use')
  }
  const identity = { port, password: earlier?.password ?? randomBytes(18).toString('hex') }
  await writeSecret(file, JSON.stringify(identity))
  await writeSecret(
    join(directory, 'rabbitmq.conf'),
    [
      `listeners.tcp.1 = ${address}:${identity.port}`,
      `default_user = ${USER}`,
      `default_pass = ${identity.password}`,
      'default_user_tags.administrator = true',
      // The default of 512 MB per quorum log file is memory, too.
      'raft.wal_max_size_bytes = 16777216',
      'log.file = broker.log',
      'log.file.level = warning',
      'log.console = false',
      '',
    ].join('\n'),
  )
  await writeFile(join(directory, 'enabled_plugins'), '[].\n')
  return identity
}

async function startNode(
  script: string,
  directory: string,
  timeoutMs: number,
  logger: Logger,
): Promise<Node> {
  const started = performance.now()
  const child = spawn(script, serverArguments(), {
    cwd: directory,
    env: serverEnvironment(directory),
    detached: true, // an interrupt at the terminal is ours to handle, in our order
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  child.stdin.on('error', () => {}) // it died; 'exit' tells
  const tail: string[] = []
  const lines = createInterface({ input: child.stdout })
  const keep = (line: string) => {
    tail.push(line)
    if (tail.length > 40) tail.shift()
  }
  lines.on('line', keep)
  createInterface({ input: child.stderr }).on('line', keep)

  const expectLine = async (wanted: string, waitMs: number, what: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const onLine = (line: string) => line.includes(wanted) && resolve()
    const onExit = () => reject(new Error('it exited'))
    const timer = setTimeout(() => reject(new Error(`nothing after ${waitMs} ms`)), waitMs)
    lines.on('line', onLine)
    child.once('exit', onExit).once('error', reject)
    try {
      await promise
    } catch (cause) {
      throw new HowdahError(
        'broker_unavailable',
        `the private broker in ${directory} did not ${what}; see ${join(directory, 'log')}. Its last output: ${tail.slice(-8).join(' | ')}`,
        { cause },
      )
    } finally {
      clearTimeout(timer)
      lines.off('line', onLine)
      child.off('exit', onExit).off('error', reject)
    }
  }

  const pid = child.pid
  if (pid !== undefined) await writeFile(join(directory, 'broker.pid'), `${pid}\n`)
  try {
    await expectLine(READY, timeoutMs, 'come up')
  } catch (error) {
    if (pid !== undefined) killGroup(pid, 'SIGKILL')
    throw error
  }
  logger.info({ pid, ms: Math.round(performance.now() - started) }, 'private broker is up')
  return {
    pid: pid as number,
    child,
    async command(verb, argument) {
      if (!/^[A-Za-z0-9_.-]{1,100}$/.test(argument)) {
        throw new HowdahError('internal', `"${argument}" cannot be the name of a virtual host here`)
      }
      const answer = expectLine(`howdah: ${verb} ${argument} `, 30_000, `${verb} ${argument}`)
      child.stdin.write(`${verb} ${argument}\n`)
      await answer
    },
  }
}

/** Ends with the shell-free form: `erl` gets these after the script's own arguments. */
function serverArguments(): string[] {
  const program = `
    supervisor:terminate_child(rabbit_sup, rabbit_epmd_monitor_sup),
    Answer = fun(Verb, Name, Result) -> io:format("howdah: ~s ~s ~0p~n", [Verb, Name, Result]) end,
    Loop = fun Loop() ->
      case io:get_line("") of
        Line when is_list(Line) ->
          case string:lexemes(Line, " \\n") of
            ["vhost", Name] ->
              V = list_to_binary(Name), A = <<".*">>, U = <<"${USER}">>,
              rabbit_vhost:add(V, U),
              Answer("vhost", Name, rabbit_auth_backend_internal:set_permissions(U, V, A, A, A, U));
            ["disk", Bytes] ->
              Answer("disk", Bytes, rabbit_disk_monitor:set_disk_free_limit(list_to_integer(Bytes)));
            ["drop", Name] ->
              Answer("drop", Name, catch rabbit_vhost:delete(list_to_binary(Name), <<"${USER}">>));
            _ -> ok
          end,
          Loop();
        _ -> timer:apply_after(${ORPHAN_STOP_MS}, erlang, halt, [0]), init:stop()
      end
    end,
    io:format("~n${READY}~n"),
    spawn(Loop).`
  return [
    '-noshell',
    ...['-sname', 'howdah@localhost'],
    ...['-start_epmd', 'false', '-dist_listen', 'false'],
    // RabbitMQ insists on asking for its own distribution port; this answers it, and nothing listens there.
    ...['-erl_epmd_port', '1'],
    ...['-eval', program.replaceAll(/\s+/g, ' ').trim()],
  ]
}

function serverEnvironment(directory: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    LANG: 'C.UTF-8',
    HOME: directory, // where Erlang looks for its cookie
    RABBITMQ_ALLOW_INPUT: '1',
    RABBITMQ_NODENAME: 'howdah@localhost',
    RABBITMQ_CONF_ENV_FILE: join(directory, 'rabbitmq-env.conf'),
    RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(directory, 'advanced.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
    RABBITMQ_GENERATED_CONFIG_DIR: join(directory, 'generated'),
    RABBITMQ_PLUGINS_EXPAND_DIR: join(directory, 'plugins'),
    RABBITMQ_MNESIA_BASE: join(directory, 'data'),
    RABBITMQ_LOG_BASE: join(directory, 'log'),
    RABBITMQ_PID_FILE: join(directory, 'rabbitmq.pid'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 2:2',
    // For the helper processes that RabbitMQ starts, which would leave an epmd behind otherwise.
    ERL_FLAGS: '-start_epmd false -dist_listen false',
  }
}

async function stopNode(node: Node, directory: string): Promise<void> {
  const { child, pid } = node
  if (child.exitCode === null && child.signalCode === null) {
    const exited = once(child, 'exit')
    child.stdin?.end()
    killGroup(pid, 'SIGTERM')
    const killer = setTimeout(() => killGroup(pid, 'SIGKILL'), 20_000)
    await exited
    clearTimeout(killer)
  }
  await rm(join(directory, 'broker.pid'), { force: true })
}

/** A node stops by itself when the process that started it dies; this waits for that and insists after a while. */
async function stopOrphan(directory: string, logger: Logger): Promise<void> {
  const file = join(directory, 'broker.pid')
  const pid = Number(await readFile(file, 'utf8').catch(() => ''))
  if (!(pid > 1) || !(await isNodeOf(pid, directory))) return
  logger.warn({ pid }, 'stopping a private broker that an earlier process left')
  killGroup(pid, 'SIGTERM')
  const deadline = performance.now() + 20_000
  while (await isNodeOf(pid, directory)) {
    if (performance.now() > deadline) killGroup(pid, 'SIGKILL')
    await sleep(50)
  }
  await rm(file, { force: true })
}

/** Erlang has its home directory, which is ours alone, among its arguments: a recycled pid never matches. */
async function isNodeOf(pid: number, directory: string): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  const words = commandLine.split('\0')
  return words[words.indexOf('-home') + 1] === directory
}

function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // it is gone, which is what was wanted
  }
}

async function writeSecret(file: string, text: string): Promise<void> {
  await writeFile(file, text, { mode: 0o600 })
  await chmod(file, 0o600)
}
