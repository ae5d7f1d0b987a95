/** Gathers what the configuration of an instance follows from, and writes the files made for it. */
import { execFile } from 'node:child_process'
import { readFile, realpath, statfs } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { promisify } from 'node:util'
import { type BackupConfiguration, readBackupConfiguration, type Settings } from './backup-configuration.ts'
import { type MachineMemory, postgresArguments } from './configuration.ts'
import { type RecoveryMinimums, readControlData } from './control-data.ts'
import { writeConfigFile } from './first-recovery.ts'
import { hbaFile, identFile } from './host-based-access.ts'
import { exists, writeOwnFile } from './own-file.ts'
import { decidePreload, PRELOAD_SETTINGS } from './preload-libraries.ts'
import { quarantineWarnings } from './quarantine.ts'
import { restoreScript } from './recovery-settings.ts'
import { type InstanceSpec, instancePaths } from './specification.ts'

const run = promisify(execFile)

export interface PreparedConfiguration {
  /** For the program `postgres`. */
  readonly arguments: string[]
  readonly warnings: string[]
}

/**
 * @param raised limits that production is known to have raised since the backup
 * @throws HowdahError `backup_damaged` | `library_missing` | `invalid_message` | `configuration` | `timeout`
 */
export async function prepareConfiguration(
  spec: InstanceSpec,
  raised: RecoveryMinimums,
): Promise<PreparedConfiguration> {
  const paths = instancePaths(spec)
  const [control, memory, disk, { backup, preload }] = await Promise.all([
    readControlData(spec),
    machineMemory(),
    statfs(spec.cachePath),
    readBackup(spec),
    writeOwnFile(paths.hba, hbaFile(spec), 0o644, 'process'),
    writeOwnFile(paths.ident, identFile(spec), 0o644, 'process'),
    writeOwnFile(paths.restoreScript, restoreScript(spec), 0o644, 'process'),
  ])
  await writeConfigFile(spec, backup.files)
  return {
    arguments: postgresArguments({
      spec,
      backup,
      control: { ...control, ...raised },
      memory,
      freeDisk: disk.bavail * disk.bsize,
      preload: preload.settings,
    }),
    warnings: [...quarantineWarnings(spec, backup.settings), ...includeWarnings(backup), ...preload.warnings],
  }
}

function includeWarnings({ leftOut }: BackupConfiguration): string[] {
  if (leftOut.length === 0) return []
  const names = [...new Set(leftOut)].join(', ')
  return [`postgresql.conf includes what is not in the backup, and goes without: ${names}.`]
}

async function readBackup(spec: InstanceSpec) {
  const backup = await readBackupConfiguration(instancePaths(spec).data)
  const preload = await decidePreload(backup.settings, await libraryFinder(spec, backup.settings))
  return { backup, preload }
}

/** @returns a function that says whether the target has a loadable library of a name; yes when that cannot be known */
async function libraryFinder(
  spec: InstanceSpec,
  settings: Settings,
): Promise<(library: string) => Promise<boolean>> {
  const asked = PRELOAD_SETTINGS.some((name) => (settings.get(name) ?? '') !== '')
  if (!asked || settings.has('dynamic_library_path')) return async () => true
  const directory = await libraryDirectory(spec.binaries)
  return async (library) => {
    const plain = library.replace(/^\$libdir\//, '')
    const path = isAbsolute(plain) ? plain : directory && join(directory, plain)
    if (path === undefined) return true
    return (await exists(path)) || (await exists(`${path}.so`))
  }
}

/** Directory of PostgreSQL's loadable modules ($libdir). */
async function libraryDirectory(binaries: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(`${binaries}/pg_config`, ['--pkglibdir'], { timeout: 10_000 })
    return stdout.trim()
  } catch {
    // Some distributions have pg_config in their development package only.
    const beside = join(await realpath(binaries), '..', 'lib')
    for (const candidate of [beside, join(beside, 'postgresql')]) {
      if (await exists(join(candidate, 'plpgsql.so'))) return candidate
    }
    return undefined
  }
}

async function machineMemory(): Promise<MachineMemory> {
  const text = await readFile('/proc/meminfo', 'utf8')
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  return {
    total: totalmem(),
    freeHugePages: field('HugePages_Free') * field('Hugepagesize') * 1024,
  }
}
