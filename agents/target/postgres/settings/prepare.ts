/**
 * Collects the inputs of an instance's configuration and writes its configuration files. Owns `conf/` of the session; in the
 * data directory it changes only postgresql.auto.conf.
 *
 * backup-configuration.ts reads the backup's settings, configuration.ts (with quarantine.ts, limits.ts, user-settings.ts and
 * recovery-settings.ts) decides on the instance's, and settings-trial.ts has PostgreSQL validate them.
 */
import { readFile, statfs } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { HowdahError } from '../../../../messages/errors.ts'
import { writeFileAtomically } from '../process/atomic-file.ts'
import { readControlData } from '../recovery/control-data.ts'
import type { RecoveryMinimums } from '../recovery/control-file.ts'
import { isRecovered, writeConfigFile } from '../recovery/first-recovery.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import { dropAutomaticSettings, extractAutomaticSettings } from './automatic-settings.ts'
import { type BackupConfiguration, readBackupConfiguration, type Settings } from './backup-configuration.ts'
import {
  type InstanceSettings,
  instanceSettings,
  type MachineMemory,
  postgresArguments,
} from './configuration.ts'
import { hbaFile, identFile } from './host-based-access.ts'
import { libraryFinder } from './library-finder.ts'
import { limitsOf } from './limits.ts'
import { decidePreload } from './preload-libraries.ts'
import { quarantineWarnings } from './quarantine.ts'
import { restoreScript } from './recovery-settings.ts'
import { findRefusals, type Refusal, settingsProblem } from './settings-trial.ts'
import { userSettings } from './user-settings.ts'

export interface PreparedConfiguration {
  /** Arguments of `postgres`. */
  readonly arguments: string[]
  /** The values of the settings for which recovery has minimums. */
  readonly limits: RecoveryMinimums
  readonly warnings: string[]
}

/**
 * @param walBytes of the write cache that are set aside for WAL
 * @throws HowdahError `backup_damaged` | `library_missing` | `invalid_message` | `configuration` | `postgres_failed` |
 *   `timeout`
 */
export async function prepareConfiguration(
  spec: InstanceSpec,
  walBytes = Number.POSITIVE_INFINITY,
): Promise<PreparedConfiguration> {
  const paths = instancePaths(spec)
  const [control, memory, disk, backup, recovered] = await Promise.all([
    readControlData(spec),
    machineMemory(),
    statfs(spec.cachePath),
    readBackup(spec),
    isRecovered(spec),
    writeFileAtomically(paths.hba, hbaFile(spec), 0o644, 'process'),
    writeFileAtomically(paths.ident, identFile(spec), 0o644, 'process'),
  ])
  await writeFileAtomically(
    paths.restoreScript,
    restoreScript(spec, control.walSegmentBytes),
    0o644,
    'process',
  )
  const chosen = userSettings(spec)
  const finder = libraryFinder(
    spec.binaries,
    chosen.get('dynamic_library_path') ?? backup.settings.get('dynamic_library_path'),
  )
  const preload = await decidePreload(backup.settings, spec.extensions ?? [], chosen, finder)
  const { fixed, initial, given } = instanceSettings({
    spec,
    backup: backup.settings,
    control,
    memory,
    freeDisk: disk.bavail * disk.bsize,
    walBytes,
    preload: preload.settings,
    recovered,
  })
  const args = postgresArguments(spec, fixed)
  await dropAutomaticSettings(spec, new Set(given.keys()))
  const { taken, warnings } = await omitRefused(spec, args, { initial, given }, recovered)
  return {
    arguments: args,
    limits: limitsOf(taken, spec),
    warnings: [
      ...quarantineWarnings(spec, backup.settings),
      ...fileWarnings(backup),
      ...stackWarnings(backup.settings, initial),
      ...preload.warnings,
      ...warnings,
    ],
  }
}

async function readBackup(spec: InstanceSpec): Promise<BackupConfiguration> {
  return readBackupConfiguration(instancePaths(spec).data, await extractAutomaticSettings(spec))
}

/**
 * Writes the configuration file with those of production's settings that PostgreSQL accepts on this machine, and all that
 * the user gave.
 * @param args of the start, in combination with which they must be accepted
 */
async function omitRefused(
  spec: InstanceSpec,
  args: readonly string[],
  { initial, given }: Pick<InstanceSettings, 'initial' | 'given'>,
  recovered: boolean,
): Promise<{ taken: Settings; warnings: string[] }> {
  const only = (names: Iterable<string>): Settings => {
    const chosen = new Set(names)
    return new Map([...initial].filter(([name]) => chosen.has(name)))
  }
  const attempt = async (names: Iterable<string>): Promise<string | undefined> => {
    await writeConfigFile(spec, new Map([...only(names), ...given]), recovered)
    return settingsProblem(args, spec)
  }
  if ((await attempt(initial.keys())) === undefined) return { taken: initial, warnings: [] }
  const reason = await attempt([])
  if (reason !== undefined)
    throw new HowdahError('postgres_failed', `PostgreSQL rejects the settings of the instance: ${reason}.`)
  const refusals = await findRefusals([...initial.keys()], attempt)
  const refused = new Set(refusals.map(({ name }) => name))
  const taken = only([...initial.keys()].filter((name) => !refused.has(name)))
  const still = await attempt(taken.keys())
  if (still !== undefined)
    throw new HowdahError(
      'postgres_failed',
      `PostgreSQL rejects the combination of production's settings: ${still}.`,
    )
  return {
    taken,
    warnings: refusals.map((refusal) => refusedWarning(refusal, initial.get(refusal.name))),
  }
}

/** Names of settings whose values may be secret. */
const SECRET = /conninfo|pass|secret|token|key|command/

function refusedWarning({ name, reason }: Refusal, value: string | undefined): string {
  const isSecret = SECRET.test(name)
  const what = isSecret ? name : `${name} = '${value}'`
  const why = isSecret ? '' : `: ${reason}`
  return `Production's setting ${what} is not possible on the target and was left out${why}. To set another value: --setting ${name}=….`
}

function fileWarnings({ leftOut, unreadable }: BackupConfiguration): string[] {
  const list = (items: readonly string[]) => [...new Set(items)].join(', ')
  return [
    ...(leftOut.length === 0
      ? []
      : [
          `postgresql.conf includes files that are not in the backup, and they were left out: ${list(leftOut)}.`,
        ]),
    ...(unreadable.length === 0
      ? []
      : [`Lines of production's configuration have syntax errors, and were left out: ${list(unreadable)}.`]),
  ]
}

function stackWarnings(backup: Settings, initial: Settings): string[] {
  const [asked, had] = [backup.get('max_stack_depth'), initial.get('max_stack_depth')]
  if (asked === had || asked === undefined) return []
  return [
    `Production's max_stack_depth = '${asked}' is more than the stack of processes on the target (ulimit -s); it is ${had}.`,
  ]
}

async function machineMemory(): Promise<MachineMemory> {
  const [memory, limits] = await Promise.all(
    ['/proc/meminfo', '/proc/self/limits'].map((path) => readFile(path, 'utf8')),
  )
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(memory ?? '')?.[1] ?? 0)
  // proc(5): soft limit, hard limit, unit.
  const stack = /^Max stack size\s+(\d+)/m.exec(limits ?? '')?.[1]
  return {
    total: Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY),
    freeHugePages: field('HugePages_Free') * field('Hugepagesize') * 1024,
    ...(stack !== undefined && { stack: Number(stack) }),
  }
}
