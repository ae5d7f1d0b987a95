/**
 * One run of a private RabbitMQ node as a child process: starts it, stops it, and administers it over its standard
 * input, because without Erlang distribution there is no rabbitmqctl.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { HowdahError } from '../../messages/errors.ts'
import { BROKER_USER } from './broker-files.ts'

const READY = 'howdah: ready'
/** An orderly stop takes a second or two, but never ends once the reader of the node's output is gone. */
const ORPHAN_STOP_MS = 4_000

export interface BrokerNode {
  readonly pid: number
  readonly child: ChildProcess
  command(verb: 'vhost' | 'drop' | 'disk' | 'memory', argument: string): Promise<void>
}

export async function startNode(
  script: string,
  directory: string,
  timeoutMs: number,
  logger: Logger,
): Promise<BrokerNode> {
  const started = performance.now()
  const child = spawn(script, serverArguments(), {
    cwd: directory,
    env: serverEnvironment(directory),
    detached: true, // Ctrl-C must not reach it: its owner stops it, in order
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  child.stdin.on('error', () => {}) // it died; 'exit' reports that
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
  logger.info({ broker: pid, ms: Math.round(performance.now() - started) }, 'private broker is up')
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

/** Arguments that the server script passes on to `erl` after its own. */
function serverArguments(): string[] {
  const program = `
    supervisor:terminate_child(rabbit_sup, rabbit_epmd_monitor_sup),
    Answer = fun(Verb, Name, Result) -> io:format("howdah: ~s ~s ~0p~n", [Verb, Name, Result]) end,
    Loop = fun Loop() ->
      case io:get_line("") of
        Line when is_list(Line) ->
          case string:lexemes(Line, " \\n") of
            ["vhost", Name] ->
              V = list_to_binary(Name), A = <<".*">>, U = <<"${BROKER_USER}">>,
              rabbit_vhost:add(V, U),
              Answer("vhost", Name, rabbit_auth_backend_internal:set_permissions(U, V, A, A, A, U));
            ["disk", Bytes] ->
              Answer("disk", Bytes, rabbit_disk_monitor:set_disk_free_limit(list_to_integer(Bytes)));
            ["memory", Fraction] ->
              Answer("memory", Fraction, vm_memory_monitor:set_vm_memory_high_watermark(list_to_float(Fraction)));
            ["drop", Name] ->
              Answer("drop", Name, catch rabbit_vhost:delete(list_to_binary(Name), <<"${BROKER_USER}">>));
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
    // RabbitMQ always asks for its distribution port; this answers, and nothing listens there.
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

export async function stopNode(node: BrokerNode, directory: string): Promise<void> {
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

/** A node stops by itself when the process that started it dies; this waits for that, then kills it. */
export async function stopOrphan(directory: string, logger: Logger): Promise<void> {
  const file = join(directory, 'broker.pid')
  const pid = Number(await readFile(file, 'utf8').catch(() => ''))
  if (!(pid > 1) || !(await isNodeOf(pid, directory))) return
  logger.warn({ broker: pid }, 'stopping an orphaned private broker')
  killGroup(pid, 'SIGTERM')
  const deadline = performance.now() + 20_000
  while (await isNodeOf(pid, directory)) {
    if (performance.now() > deadline) killGroup(pid, 'SIGKILL')
    await sleep(50)
  }
  await rm(file, { force: true })
}

/** Erlang has its home directory, which no other node has, among its arguments: a recycled pid never matches. */
async function isNodeOf(pid: number, directory: string): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  const words = commandLine.split('\0')
  return words[words.indexOf('-home') + 1] === directory
}

export function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // already gone
  }
}
