/** The repositories that this mount agent serves, by name: what the inventory, the steps and the data plane read. */
import type { AgentCommandBody } from '../../messages/definitions.ts'
import { type ErrorCode, errorBody, HowdahError } from '../../messages/errors.ts'
import type { InstanceInventory, RepositoryInventory } from '../../messages/values.ts'
import { backupGone, expiringBackup } from './expired-backup.ts'
import type { DamageReports } from './pages/damage-reports.ts'
import { verifiedBackup } from './pages/verified-backup.ts'
import { type ArchiveKnowledge, createArchiveKnowledge } from './recovery/instance-archive.ts'
import { instanceWindows } from './recovery/windows.ts'
import type { Instance, OpenBackup, Repository, RepositoryOptions } from './repository.ts'
import { withVersionProblem } from './unknown-version.ts'

/** Errors that mean that the repository no longer has the backup. */
const GONE: ReadonlySet<ErrorCode> = new Set(['unknown_backup', 'unknown_instance'])

export interface ServedRepositories {
  readonly names: readonly Pick<RepositoryOptions, 'name' | 'format'>[]
  /** @throws HowdahError `unknown_repository` | `unknown_instance` | `repository_unavailable` */
  instance(repository: string, instance: string): Promise<Instance>
  /** @throws HowdahError as `instance`, and as `Instance.open` */
  open(backup: { repository: string; instance: string; backup: string }): Promise<OpenBackup>
  /** As `open`, for a backup that was opened before. @throws HowdahError `backup_gone` when the repository no longer has it */
  reopen(backup: { repository: string; instance: string; backup: string }): Promise<OpenBackup>
  /** All instances and backups; one that cannot be read is listed with its error and does not hide the others. */
  inventory(filter: AgentCommandBody<'repository.list'>): Promise<RepositoryInventory[]>
}

/** Databases that an inventory lists of an instance. */
const MAX_DATABASES = 100

function listedDatabases(names: readonly string[]): Pick<InstanceInventory, 'databases' | 'moreDatabases'> {
  const more = names.length - MAX_DATABASES
  return { databases: names.slice(0, MAX_DATABASES), ...(more > 0 && { moreDatabases: more }) }
}

/** @param damage receives the damaged pages of repositories with `verifyPages` */
export function serveRepositories(
  mountAgent: string,
  repositories: readonly { readonly options: RepositoryOptions; readonly repository: Repository }[],
  knowledge: ArchiveKnowledge = createArchiveKnowledge(),
  damage?: DamageReports,
): ServedRepositories {
  const verified = new Set(
    repositories.filter(({ options }) => options.verifyPages === true).map(({ options }) => options.name),
  )
  const byName = new Map(repositories.map((served) => [served.options.name, served.repository]))

  async function instance(name: string, instanceName: string): Promise<Instance> {
    const repository = byName.get(name)
    if (!repository) {
      throw new HowdahError(
        'unknown_repository',
        `the mount agent "${mountAgent}" serves no repository "${name}"`,
        {
          field: 'repository',
        },
      )
    }
    return repository.instance(instanceName)
  }

  async function instanceInventory(repository: Repository, name: string): Promise<InstanceInventory> {
    try {
      const found = await repository.instance(name)
      const backups = (await found.backups()).map(withVersionProblem)
      const newest = backups.findLast(({ unusable }) => unusable === undefined)
      // Backups are listed even where windows or databases cannot be determined.
      const [{ windows, remarks }, databases] = await Promise.all([
        instanceWindows(found, backups, knowledge).catch((error: unknown) => ({
          windows: undefined,
          remarks: [errorBody(error).message],
        })),
        newest && found.databases(newest.label).catch(() => undefined),
      ])
      return {
        instance: name,
        backups,
        ...(windows && { windows }),
        ...(databases && listedDatabases(databases)),
        ...(remarks.length > 0 && { warnings: remarks }),
      }
    } catch (error) {
      return { instance: name, backups: [], error: errorBody(error) }
    }
  }

  async function open(backup: { repository: string; instance: string; backup: string }): Promise<OpenBackup> {
    const { repository, instance: instanceName, backup: label } = backup
    const found = await instance(repository, instanceName)
    const isListed = async () => {
      // Looked up again: an instance may disappear with its last backup.
      const now = await instance(repository, instanceName).catch((error: unknown) => {
        if (error instanceof HowdahError && GONE.has(error.code)) return undefined
        throw error
      })
      return now !== undefined && (await now.backups()).some((one) => one.label === label)
    }
    const opened = expiringBackup(await found.open(label), backup, isListed)
    if (damage === undefined || !verified.has(repository)) return opened
    return verifiedBackup(opened, damage.of({ repository, instance: instanceName, backup: label }))
  }

  return {
    names: repositories.map(({ options: { name, format } }) => ({ name, format })),
    instance,
    open,
    async reopen(backup) {
      try {
        return await open(backup)
      } catch (error) {
        const isUnknown = error instanceof HowdahError && GONE.has(error.code)
        if (isUnknown) throw backupGone(backup, error)
        throw error
      }
    },
    async inventory(filter) {
      const wanted = repositories.filter(
        ({ options }) => filter.repository === undefined || options.name === filter.repository,
      )
      return Promise.all(
        wanted.map(async ({ options, repository }): Promise<RepositoryInventory> => {
          const about = { repository: options.name, format: options.format, mountAgent }
          try {
            const names = filter.instance === undefined ? await repository.instances() : [filter.instance]
            const instances = await Promise.all(names.map((name) => instanceInventory(repository, name)))
            return { ...about, instances }
          } catch (error) {
            return { ...about, instances: [], error: errorBody(error) }
          }
        }),
      )
    },
  }
}
