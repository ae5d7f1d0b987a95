/**
 * Owns a RabbitMQ cluster for tests: three nodes of the installed package, each on a host of its own (hosts.ts), set as
 * docs/fleet.md says for production. Nodes are killed, stopped by SIGSTOP and started again; their links are cut by the
 * hosts.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { linkServerWithoutPlugins } from '../../coordinator/cli/broker-files.ts'
import { type Hosts, makeHosts } from './hosts.ts'
import { poll } from './poll.ts'
import { refusals } from './rabbitmq.ts'
import { scratchDirectory } from './scratch.ts'

export const NODES = ['broker-1', 'broker-2', 'broker-3'] as const
export type Node = (typeof NODES)[number]

export interface BrokerCluster {
  /** Of all nodes, with credentials. */
  readonly urls: string[]
  readonly hosts: Hosts
  /** kill -9 of a node, as in a power cut of its machine. */
  kill(node: Node): Promise<void>
  /** SIGSTOP: connections stay open, and nothing answers. */
  freeze(node: Node): Promise<void>
  thaw(node: Node): Promise<void>
  /** Starts nodes that were killed; resolves when they take connections. */
  start(...nodes: Node[]): Promise<void>
  /** Restores all links, and starts and wakes all nodes. */
  restore(): Promise<void>
  /** Nodes of which the cluster consists at this moment, as one of them sees it. */
  running(asked: Node): Promise<string[]>
  /** The nodes that have a copy of a quorum queue. */
  members(asked: Node, queue: string): Promise<string[]>
  /** The node that leads a quorum queue, or has a queue of another kind; undefined: none at this moment. */
  leader(asked: Node, queue: string): Promise<Node | undefined>
  remove(): Promise<void>
}

interface Running {
  readonly child: ChildProcess
  readonly lines: Interface
}

const AMQP_PORT = 5672
/** Seconds after which a node that does not answer counts as down for the others. */
const NET_TICKTIME = 5
const START_MS = 90_000
const ANSWER_MS = 5_000
const READY = 'test: ready'

/** @param more further hosts, for what uses the cluster */
export async function startBrokerCluster(more: readonly string[] = []): Promise<BrokerCluster> {
  const directory = await scratchDirectory('howdah-broker-cluster-')
  const hosts = await makeHosts([...NODES, ...more])
  const password = randomBytes(12).toString('hex')
  const running = new Map<Node, Running>()
  const nameOf = (node: Node): string => `rabbit@${hosts.address(node)}`

  async function start(node: Node): Promise<void> {
    const home = join(directory, node)
    const script = await linkServerWithoutPlugins(home, { managementPort: undefined, tls: undefined })
    const [program, ...args] = hosts.on(node, [script, ...erlangArguments()])
    const child = spawn(program, args, {
      cwd: home,
      env: environment(home, nameOf(node)),
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    child.stdin.on('error', () => {})
    const lines = createInterface({ input: child.stdout })
    const said: string[] = []
    for (const output of [lines, createInterface({ input: child.stderr })])
      output.on('line', (text) => said.push(text))
    running.set(node, { child, lines })
    const exited = once(child, 'exit').then(() => {
      throw new Error(`${node} ended: ${said.slice(-12).join(' | ')}`)
    })
    exited.catch(() => {})
    await Promise.race([line(lines, READY, START_MS), exited])
  }

  /** The value of an Erlang expression on a node, a list of words; empty where it fails. */
  async function ask(node: Node, expression: string): Promise<string[]> {
    const { child, lines } = running.get(node) as Running
    const id = randomBytes(4).toString('hex')
    const answer = line(lines, `test: ${id} `, ANSWER_MS)
    child.stdin?.write(`${id} ${expression}\n`)
    const text = await answer
    return text
      .slice(text.indexOf(id) + id.length + 1)
      .split(' ')
      .filter(Boolean)
  }

  const nodeOf = (name: string): Node | undefined => NODES.find((node) => nameOf(node) === name)
  const signal = async (node: Node, name: NodeJS.Signals): Promise<void> => {
    for (const pid of await hosts.processes(node)) {
      try {
        process.kill(pid, name)
      } catch (error) {
        // A helper process that ended in between.
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
  }
  const queueNamed = (queue: string): string =>
    `{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"${queue}">>))`

  async function remove(): Promise<void> {
    await hosts.restoreAll()
    await hosts.remove()
    await rm(directory, { recursive: true, force: true })
  }

  const cluster: BrokerCluster = {
    urls: NODES.map((node) => `amqp://howdah:${password}@${hosts.address(node)}:${AMQP_PORT}/%2F`),
    hosts,
    kill: async (node) => {
      const exited = once((running.get(node) as Running).child, 'exit')
      await hosts.killAll(node)
      await exited
    },
    freeze: (node) => signal(node, 'SIGSTOP'),
    thaw: (node) => signal(node, 'SIGCONT'),
    start: async (...nodes) => {
      await Promise.all(nodes.map(start))
    },
    async restore() {
      await hosts.restoreAll()
      for (const node of NODES) await cluster.thaw(node)
      await cluster.start(
        ...NODES.filter(
          (node) => running.get(node)?.child.signalCode || running.get(node)?.child.exitCode !== null,
        ),
      )
    },
    running: async (asked) =>
      (await ask(asked, 'rabbit_nodes:all_running()')).flatMap((name) => nodeOf(name) ?? []),
    members: async (asked, queue) =>
      (await ask(asked, `${queueNamed(queue)}, maps:get(nodes, amqqueue:get_type_state(Q))`)).flatMap(
        (name) => nodeOf(name) ?? [],
      ),
    async leader(asked, queue) {
      const [name] = await ask(
        asked,
        `${queueNamed(queue)}, case amqqueue:get_pid(Q) of {_, N} -> [N]; P when is_pid(P) -> [node(P)]; _ -> [] end`,
      )
      return name === undefined ? undefined : nodeOf(name)
    },
    remove,
  }
  try {
    for (const node of NODES) await writeFiles(join(directory, node), hosts, node, password)
    await cluster.start(...NODES)
    await poll(async () => (await cluster.running('broker-1')).length === NODES.length || undefined, {
      deadlineMs: START_MS,
      failure: () => 'the nodes are no cluster',
    })
    return cluster
  } catch (error) {
    await remove()
    throw error
  }
}

async function writeFiles(home: string, hosts: Hosts, node: Node, password: string): Promise<void> {
  await mkdir(home, { recursive: true, mode: 0o700 })
  await writeFile(join(home, '.erlang.cookie'), 'howdahtests', { mode: 0o400 })
  await writeFile(join(home, 'enabled_plugins'), '[].\n')
  await writeFile(
    join(home, 'rabbitmq.conf'),
    [
      `listeners.tcp.1 = ${hosts.address(node)}:${AMQP_PORT}`,
      'default_user = howdah',
      `default_pass = ${password}`,
      'cluster_formation.peer_discovery_backend = classic_config',
      ...NODES.map(
        (one, index) => `cluster_formation.classic_config.nodes.${index + 1} = rabbit@${hosts.address(one)}`,
      ),
      'cluster_partition_handling = pause_minority',
      `net_ticktime = ${NET_TICKTIME}`,
      'raft.wal_max_size_bytes = 16777216',
      'max_message_size = 16777216',
      'log.file = broker.log',
      'log.file.level = info',
      'log.console = false',
      // A node that starts while others are down cannot always tell whether there are such queues, and gives up then (4.0.5).
      ...refusals(['transient_nonexcl_queues']),
      '',
    ].join('\n'),
  )
}

/** Evaluates what comes on the standard input, `ID EXPRESSION`, and ends the node when that is closed. */
function erlangArguments(): string[] {
  const program = `
    Words = fun(Value) -> lists:join(" ", [io_lib:format("~s", [W]) || W <- Value]) end,
    Loop = fun Loop() ->
      case io:get_line("") of
        Line when is_list(Line) ->
          [Id, Expression] = string:split(string:trim(Line), " "),
          {ok, Tokens, _} = erl_scan:string(Expression ++ "."),
          {ok, Parsed} = erl_parse:parse_exprs(Tokens),
          Value = try element(2, erl_eval:exprs(Parsed, [])) catch _:_ -> [] end,
          io:format("test: ~s ~s~n", [Id, Words(Value)]),
          Loop();
        _ -> erlang:halt(0)
      end
    end,
    io:format("~n${READY}~n"),
    spawn(Loop).`
  return ['-noshell', '-eval', program.replaceAll(/\s+/g, ' ').trim()]
}

function environment(home: string, name: string): NodeJS.ProcessEnv {
  return {
    ...{ PATH: process.env.PATH, TEST_RUN: process.env.TEST_RUN, LANG: 'C.UTF-8', HOME: home },
    ...{ RABBITMQ_ALLOW_INPUT: '1', RABBITMQ_USE_LONGNAME: 'true', RABBITMQ_NODENAME: name },
    RABBITMQ_CONF_ENV_FILE: join(home, 'rabbitmq-env.conf'),
    RABBITMQ_CONFIG_FILE: join(home, 'rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(home, 'advanced.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(home, 'enabled_plugins'),
    RABBITMQ_GENERATED_CONFIG_DIR: join(home, 'generated'),
    RABBITMQ_PLUGINS_EXPAND_DIR: join(home, 'plugins'),
    RABBITMQ_MNESIA_BASE: join(home, 'data'),
    RABBITMQ_LOG_BASE: join(home, 'log'),
    RABBITMQ_PID_FILE: join(home, 'rabbitmq.pid'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 1:1',
  }
}

async function line(lines: Interface, wanted: string, waitMs: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const onLine = (text: string): void => void (text.includes(wanted) && resolve(text))
  const timer = setTimeout(() => reject(new Error(`no "${wanted}" within ${waitMs} ms`)), waitMs)
  lines.on('line', onLine)
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    lines.off('line', onLine)
  }
}
