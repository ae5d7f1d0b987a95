/** Owns pgBackRest repositories of a test production: their configuration, archiving into them, and backups. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Account, type Cluster, runAs } from './postgres-cluster.ts'

export type Compression = 'none' | 'gz' | 'zst' | 'lz4' | 'bz2'

export interface RepositoryKind {
  readonly compress: Compression
  readonly bundle: boolean
  /** Block incremental backups, which are in bundles; from version 2.46 on. Default false. */
  readonly block?: boolean
  /** Encrypts it by AES-256-CBC. Default: it is not encrypted. */
  readonly passphrase?: string
}

export type BackupType = 'full' | 'diff' | 'incr'

/** One pgBackRest repository of the production. */
export interface ProductionRepository {
  readonly path: string
  readonly stanza: string
  readonly configFile: string
  /** Takes a backup and returns its label. Archiving goes to this repository from now on. */
  backup(type: BackupType): Promise<string>
  /** Runs `pgbackrest <args>` with this repository's configuration and returns its stdout. */
  pgbackrest(...args: string[]): Promise<string>
}

export interface RepositoryOptions {
  readonly cluster: Cluster
  readonly account: Account
  readonly stanza: string
  /** Processes that pgBackRest compresses with. */
  readonly processMax: number
  /** Everything of the repository is made below it. */
  readonly home: string
  readonly kind: RepositoryKind
  /** Makes a directory that belongs to the account. */
  readonly makeDirectory: (path: string) => Promise<void>
}

/** Creates the repository with its stanza. Nothing is archived into it before its first backup. */
export async function makeRepository(options: RepositoryOptions): Promise<ProductionRepository> {
  const { cluster, account, stanza, home } = options
  const path = join(home, 'repository')
  for (const made of [home, path, join(home, 'lock'), join(home, 'spool')]) await options.makeDirectory(made)
  const configFile = join(home, 'pgbackrest.conf')
  await writeFile(configFile, configuration(options, path))

  const pgbackrest = (...args: string[]) =>
    runAs(account, 'pgbackrest', [`--config=${configFile}`, `--stanza=${stanza}`, ...args])

  async function archiveHere(): Promise<void> {
    const command = `pgbackrest --config=${configFile} --stanza=${stanza} archive-push "%p"`
    if ((await cluster.sql('show archive_command')) === command) return
    await cluster.sql(`alter system set archive_command = '${command}'`)
    await cluster.sql('select pg_reload_conf()')
  }

  await pgbackrest('stanza-create')
  return {
    path,
    stanza,
    configFile,
    pgbackrest,
    async backup(type) {
      await archiveHere()
      await pgbackrest('backup', `--type=${type}`)
      const info = JSON.parse(await pgbackrest('info', '--output=json')) as {
        backup: { label: string }[]
      }[]
      const label = info[0]?.backup.at(-1)?.label
      if (label === undefined) throw new Error('pgbackrest info lists no backup')
      return label
    },
  }
}

function configuration(
  { cluster, account, stanza, home, kind, processMax }: RepositoryOptions,
  path: string,
) {
  const cipher =
    kind.passphrase === undefined
      ? ''
      : `repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=${kind.passphrase}\n`
  return `[global]
repo1-path=${path}
repo1-bundle=${kind.bundle ? 'y' : 'n'}
${kind.block ? 'repo1-block=y\n' : ''}repo1-retention-full=9
compress-type=${kind.compress}
${cipher}lock-path=${join(home, 'lock')}
spool-path=${join(home, 'spool')}
log-level-file=off
log-level-console=warn
start-fast=y
archive-timeout=60
process-max=${processMax}

[${stanza}]
pg1-path=${cluster.dataDirectory}
pg1-port=${cluster.port}
pg1-socket-path=${cluster.socketDirectory}
pg1-user=${account.name}
`
}
