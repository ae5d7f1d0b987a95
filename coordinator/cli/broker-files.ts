/**
 * The files of a private RabbitMQ node, all in its own directory: configuration, port and credentials, and a copy of
 * the installed server without its plugins.
 */
import { randomBytes } from 'node:crypto'
import { chmod, copyFile, mkdir, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Logger } from 'pino'
import { certificateLogin } from '../fleet/init/broker-files.ts'
import { freePort } from './free-port.ts'

/** The server script itself: /usr/sbin/rabbitmq-server of Debian switches to another user and to the system's paths. */
export const SERVER_SCRIPT = '/usr/lib/rabbitmq/bin/rabbitmq-server'
/** Scripts that the server script calls. */
const SERVER_SCRIPTS = ['rabbitmq-server', 'rabbitmq-env', 'rabbitmq-defaults']
/** Libraries of plugins, which are not linked unless they are needed. */
const PLUGIN_LIBRARIES = /^(rabbitmq_(?!prelaunch-)|cowboy-|cowlib-|eetcd-|gun-|jose-|prometheus-)/
/** The only user of the node, until others are set up. */
export const BROKER_USER = 'howdah'

/** Where the node listens for TLS, and with which files (PEM). */
export interface BrokerTls {
  readonly port: number
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** What a node has besides its port. */
export interface BrokerExtras {
  readonly managementPort: number | undefined
  readonly tls: BrokerTls | undefined
  /** Further lines of rabbitmq.conf. */
  readonly settings?: readonly string[]
}

export interface Identity {
  port: number
  password: string
  /** Of the last start that had one. */
  managementPort?: number
}

/** That of the last start; undefined: there was none. */
export async function readIdentity(directory: string): Promise<Identity | undefined> {
  return readFile(identityFile(directory), 'utf8').then(
    (text) => JSON.parse(text) as Identity,
    () => undefined,
  )
}

const identityFile = (directory: string): string => join(directory, 'broker.json')

/**
 * Links the installed server without its plugins and returns the path of its script. Erlang looks up every module in
 * every library in turn; plugins that are not used here would more than double the start time of the node.
 */
export async function linkServerWithoutPlugins(directory: string, extras: BrokerExtras): Promise<string> {
  const scripts = dirname(await realpath(SERVER_SCRIPT))
  const libraries = join(dirname(scripts), 'plugins')
  const lean = join(directory, 'server')
  await rm(lean, { recursive: true, force: true })
  for (const made of ['sbin', 'plugins']) await mkdir(join(lean, made), { recursive: true })
  for (const name of SERVER_SCRIPTS) await copyFile(join(scripts, name), join(lean, 'sbin', name))
  const names = await readdir(libraries)
  const needed = await withDependencies(pluginsOf(extras), libraries, names)
  for (const name of names) {
    if (PLUGIN_LIBRARIES.test(name) && !needed.has(applicationOf(name))) continue
    await symlink(join(libraries, name), join(lean, 'plugins', name))
  }
  return join(lean, 'sbin', 'rabbitmq-server')
}

const pluginsOf = ({ managementPort, tls }: BrokerExtras): string[] => [
  ...(managementPort === undefined ? [] : ['rabbitmq_management']),
  ...(tls === undefined ? [] : ['rabbitmq_auth_mechanism_ssl']),
]

/** Of the directory of a library: its name without the version. */
const applicationOf = (library: string): string => library.replace(/-[^-]*$/, '')

/**
 * Applications with all that they depend on, which differs between versions of RabbitMQ. Source of the file `NAME.app`:
 * https://www.erlang.org/doc/apps/kernel/app
 */
async function withDependencies(
  applications: readonly string[],
  libraries: string,
  names: readonly string[],
): Promise<ReadonlySet<string>> {
  const needed = new Set(applications)
  // What is added to a set while it is iterated over is visited, too.
  for (const application of needed) {
    const library = names.find((name) => applicationOf(name) === application)
    // Others are part of Erlang.
    if (library === undefined) continue
    const file = join(libraries, library, 'ebin', `${application}.app`)
    const text = await readFile(file, 'utf8').catch(() => undefined)
    // An archive (.ez), which is not opened: then none is left out.
    if (text === undefined) return new Set(names.map(applicationOf))
    const [, list = ''] = /\{applications,\s*\[([^\]]*)\]/.exec(text) ?? []
    for (const [name] of list.matchAll(/\w+/g)) needed.add(name)
  }
  return needed
}

/** Writes the configuration files; keeps port and password of an earlier start, because the node keeps its users. */
export async function writeBrokerFiles(
  directory: string,
  address: string,
  wantedPort: number | undefined,
  extras: BrokerExtras,
  logger: Logger,
): Promise<Identity> {
  const { managementPort, tls, settings = [] } = extras
  const earlier = await readIdentity(directory)
  const port = wantedPort ?? (await freePort(address, earlier?.port))
  if (wantedPort === undefined && earlier !== undefined && port !== earlier.port) {
    logger.warn(
      { taken: earlier.port, port },
      'the private broker moves to another port, because its own is in use',
    )
  }
  const identity = { port, password: earlier?.password ?? randomBytes(18).toString('hex') }
  const kept = { ...identity, managementPort: managementPort ?? earlier?.managementPort }
  await writeSecret(identityFile(directory), JSON.stringify(kept))
  await writeSecret(
    join(directory, 'rabbitmq.conf'),
    [
      `listeners.tcp.1 = ${address}:${identity.port}`,
      `default_user = ${BROKER_USER}`,
      `default_pass = ${identity.password}`,
      'default_user_tags.administrator = true',
      // The default of 512 MB per quorum log file is allocated in memory too.
      'raft.wal_max_size_bytes = 16777216',
      // The largest message of the contract, and the default since RabbitMQ 4.
      'max_message_size = 16777216',
      'log.file = broker.log',
      'log.file.level = warning',
      'log.console = false',
      ...(managementPort === undefined
        ? []
        : [`management.tcp.ip = ${address}`, `management.tcp.port = ${managementPort}`]),
      ...(tls === undefined
        ? []
        : [
            `listeners.ssl.1 = ${address}:${tls.port}`,
            ...certificateLogin({ ca: tls.ca, certificate: tls.cert, key: tls.key }),
          ]),
      ...settings,
      '',
    ].join('\n'),
  )
  await writeFile(join(directory, 'enabled_plugins'), `[${pluginsOf(extras)}].\n`)
  return identity
}

async function writeSecret(file: string, text: string): Promise<void> {
  await writeFile(file, text, { mode: 0o600 })
  await chmod(file, 0o600)
}
