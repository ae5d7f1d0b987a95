/**
 * Makes a host ready for an agent: system user, directories, configuration where there is none, the command on PATH, and
 * a service that starts at boot. Safe to repeat; starts nothing.
 */
import { lstatSync, readlinkSync } from 'node:fs'
import path from 'node:path'
import type { RepositoryConfig } from '../../../config/formats.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { makeConfiguration } from './configuration-file.ts'
import {
  type AgentKind,
  configurationFile,
  type HostPaths,
  identityFiles,
  roleOf,
  SYSTEM_USER,
} from './host-paths.ts'
import { isPackaged, linkedVersion, ownVersion, replaceLink, setLink } from './installed-versions.ts'
import { ensureDirectory, type Owner, readIfThere } from './managed-file.ts'
import { type HostReport, note } from './report.ts'
import type { Supervisor } from './supervisor.ts'
import { agentOwner, ensureSystemUser, findSystemUser } from './system-user.ts'

export interface SetupRequest {
  readonly kind: AgentKind
  readonly name: string
  /** URLs of the nodes of the broker, one at least. */
  readonly brokers: readonly string[]
  /** Of a mount agent: where target servers reach it. */
  readonly advertise?: string
  /** Of a mount agent. */
  readonly repositories: readonly RepositoryConfig[]
}

const ROOT: Owner = { uid: 0, gid: 0 }

/** @throws HowdahError `configuration` when this is the host of another agent of that kind */
export async function setUpHost(
  paths: HostPaths,
  supervisor: Supervisor,
  request: SetupRequest,
): Promise<HostReport> {
  const report: HostReport = { changed: [], kept: [] }
  const { kind } = request
  const file = configurationFile(paths, kind)
  await checkName(file, request)
  await selectFirstVersion(paths, report)
  note(report, `user ${SYSTEM_USER}`, await ensureSystemUser(paths.state))
  await makeDirectories(paths, kind, report)
  // It may have the password of a broker, which the agent reads and does not change.
  const state = {
    mode: kind === 'mount' ? 0o640 : 0o600,
    owner: { uid: 0, gid: (await agentOwner(kind)).gid },
  }
  await makeConfiguration(file, state, report, () => configurationOf(paths, request))
  await linkCommand(paths, report)
  await supervisor.install(kind, report)
  return report
}

async function checkName(file: string, { kind, name }: SetupRequest): Promise<void> {
  const text = await readIfThere(file)
  if (text === undefined) return
  let found: unknown
  try {
    found = (JSON.parse(text) as { name?: unknown }).name
  } catch (cause) {
    throw new HowdahError('configuration', `${file} is not JSON: ${(cause as Error).message}`, { cause })
  }
  if (found === name) return
  throw new HowdahError(
    'configuration',
    `${file} is of the ${kind} agent "${found}", and a host has one of each kind. To make it "${name}", remove that agent ("howdah agent remove --purge"), or change the file.`,
  )
}

/** The first version that is set up becomes the current one; later ones are switched to. */
async function selectFirstVersion(paths: HostPaths, report: HostReport): Promise<void> {
  const version = ownVersion(paths)
  const current = linkedVersion(paths, 'current')
  if (current === undefined && version === undefined)
    throw new HowdahError(
      'configuration',
      `this program does not run from ${paths.programs}: install the bundle or the Debian package first`,
    )
  if (current === undefined && version !== undefined) await setLink(paths, 'current', version)
  note(report, `version ${current ?? version}`, current === undefined)
}

async function makeDirectories(paths: HostPaths, kind: AgentKind, report: HostReport): Promise<void> {
  const owner = await agentOwner(kind)
  const group = (await findSystemUser())?.gid ?? 0
  const make = async (directory: string, mode: number, of: Owner) =>
    note(report, directory, await ensureDirectory(directory, { mode, owner: of }))
  await make(paths.configuration, 0o755, ROOT)
  // An agent replaces its own certificate, and nobody else's: sticky, as /tmp.
  await make(paths.tls, 0o1771, { uid: 0, gid: group })
  await make(paths.state, 0o755, ROOT)
  await make(path.join(paths.state, roleOf(kind)), 0o700, owner)
}

/** What is not a default of config/schema.ts. */
function configurationOf(paths: HostPaths, request: SetupRequest): object {
  const { kind, name, brokers, advertise, repositories } = request
  const [first] = brokers
  const { ca, certificate, key } = identityFiles(paths, kind)
  // A user in the URL logs in by password; without one the agent's certificate says who it is.
  const byCertificate = brokers.every((url) => url.startsWith('amqps:') && new URL(url).username === '')
  return {
    name,
    broker: {
      ...(brokers.length === 1 ? { url: first } : { urls: brokers }),
      ...(byCertificate && { ca, certificate, key }),
    },
    ...(kind === 'mount' && {
      repositories,
      ...(advertise !== undefined && { dataPlane: { host: '0.0.0.0', advertise } }),
    }),
  }
}

async function linkCommand(paths: HostPaths, report: HostReport): Promise<void> {
  const { command, packagedCommand, programs } = paths
  if (isPackaged(paths)) return note(report, `${packagedCommand}: of the package`, false)
  const target = path.join(programs, 'current/bin/howdah')
  const found = lstatSync(command, { throwIfNoEntry: false })
  if (found === undefined) await replaceLink(command, target)
  const isOurs = found?.isSymbolicLink() === true && readlinkSync(command) === target
  const foreign = found !== undefined && !isOurs ? `: it is another program; run ${target} instead` : ''
  note(report, `${command}${foreign}`, found === undefined)
}
