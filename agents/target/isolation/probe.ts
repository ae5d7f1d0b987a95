/** Finds out which isolation mechanisms work on this machine, by running a program in each that tries to escape. */
import { spawn } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { makeCgroup, ownCgroup, removeCgroup } from './cgroup.ts'
import { isolatedCommand } from './isolated-command.ts'
import type { IsolationSupport, Mechanism } from './isolation.ts'
import { networkRules, tableName } from './network-rules.ts'
import { applyRules, nft } from './nft.ts'
import { ADMINISTRATION_PATH, missingPrograms, NETWORK_PROGRAMS, ROOT_PROGRAMS } from './programs.ts'
import { makeSessionRoot } from './session-root.ts'

export interface ProbeOptions {
  /** Name of the probe's directory, nftables table and control group. */
  readonly name: string
  /** A directory of the agent's own, in which the probe creates one and removes it. */
  readonly directory: string
  /** What the agent's configuration asks for. */
  readonly fileSystem: boolean
  readonly network: boolean
}

const DEADLINE_MS = 15_000
/** Exists everywhere, and must not be writable inside. */
const OUTSIDE = '/etc'
/** The user "nobody"; any unprivileged one will do. */
const TRIAL_USER = { name: 'nobody', uid: 65_534, gid: 65_534 }
const SWITCHED_OFF: Mechanism = { available: false, reason: "the agent's configuration switches it off" }
const NOT_ROOT: Mechanism = { available: false, reason: 'the target agent does not run as root' }

export async function probeIsolation(options: ProbeOptions): Promise<IsolationSupport> {
  const [fileSystem, network] = await Promise.all([
    probe(options.fileSystem, ROOT_PROGRAMS, () => tryFileSystem(options)),
    probe(options.network, NETWORK_PROGRAMS, () => tryNetwork(options)),
  ])
  return { fileSystem, network }
}

async function probe(
  asked: boolean,
  programs: readonly string[],
  attempt: () => Promise<string | undefined>,
): Promise<Mechanism> {
  if (!asked) return SWITCHED_OFF
  if (process.geteuid?.() !== 0) return NOT_ROOT
  const missing = missingPrograms(programs)
  if (missing.length > 0)
    return { available: false, reason: `these programs are not installed: ${missing.join(', ')}` }
  try {
    const reason = await attempt()
    return reason === undefined ? { available: true } : { available: false, reason }
  } catch (error) {
    return { available: false, reason: (error as Error).message }
  }
}

/** @returns why the isolation fails */
async function tryFileSystem({ name, directory }: ProbeOptions): Promise<string | undefined> {
  const cachePath = `${directory}/${name}`
  const mountPoint = `${cachePath}/mount`
  try {
    for (const path of [`${cachePath}/conf`, mountPoint]) mkdirSync(path, { recursive: true, mode: 0o711 })
    const root = makeSessionRoot({
      ...{ mountPoint, cachePath, binaries: '/usr/bin', hosts: undefined },
      ...{ readable: [], writable: [], tablespaces: [] },
    })
    const command = [
      '/bin/sh',
      '-c',
      `test -d ${OUTSIDE} && test ! -w ${OUTSIDE} && test ! -e ${directory}/other`,
    ]
    mkdirSync(`${directory}/other`, { recursive: true })
    const { status, said } = await runCommand(
      isolatedCommand({ root, cgroup: undefined }, TRIAL_USER, '/', command),
    )
    if (status === 0) return undefined
    return said === '' ? 'a program inside could write to or see directories outside' : said
  } finally {
    rmSync(`${directory}/other`, { recursive: true, force: true })
    rmSync(cachePath, { recursive: true, force: true })
  }
}

/** @returns why the isolation fails */
async function tryNetwork({ name }: ProbeOptions): Promise<string | undefined> {
  const own = ownCgroup()
  if (own === undefined) return 'there is no control group hierarchy of version 2 below /sys/fs/cgroup'
  const cgroup = makeCgroup(`howdah-${name}`, own)
  const server = createServer((socket) => socket.destroy())
  try {
    await applyRules(networkRules({ session: name, cgroup, outbound: [] }))
    const port = await new Promise<number>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', () => {
        const address = server.address()
        resolve(typeof address === 'object' && address !== null ? address.port : 0)
      })
    })
    const attempt = `require('net').connect(${port}, '127.0.0.1').on('connect', () => process.exit(1)).on('error', () => process.exit(0))`
    const { status, said } = await runCommand([
      ...['/bin/sh', '-c', 'echo $$ > "$1/cgroup.procs" && exec "$2" -e "$3"', 'sh'],
      ...[cgroup.directory, process.execPath, attempt],
    ])
    if (status === 0) return undefined
    return said === '' ? 'a connection from inside succeeded' : said
  } finally {
    server.close()
    const removal = `table inet ${tableName(name)}\ndelete table inet ${tableName(name)}\n`
    await nft(['-f', '-'], removal).catch(() => undefined)
    await removeCgroup(cgroup.directory)
  }
}

async function runCommand(
  command: readonly string[],
): Promise<{ readonly status: number | null; readonly said: string }> {
  const [program = '', ...args] = command
  const child = spawn(program, args, {
    cwd: '/',
    env: { PATH: ADMINISTRATION_PATH, LC_ALL: 'C' },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const [status, said] = await Promise.all([ended, text(child.stderr)])
  return { status, said: said.trim().split('\n')[0] ?? '' }
}
