/**
 * Owns a production whose pg_basebackup takes incremental backups, PostgreSQL 17 or newer, and chains of three backups of
 * it in several forms; between them relations change in every way. What pg_combinebackup makes of a chain is the judge.
 */
import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, readdir, readFile, realpath, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import {
  type Cluster,
  makeCluster,
  POSTGRES_BIN,
  postgresAccount,
  runAs,
} from '../support/postgres-cluster.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)

/** The backups of a chain, oldest first. */
export const LABELS = ['full', 'monday', 'tuesday'] as const
export type Label = (typeof LABELS)[number]
export const DATABASE = 'shop'
export const INSTANCE = 'main'

/** A form of backups: more arguments of pg_basebackup. */
export type Form = readonly string[]
export const PLAIN: Form = []

export interface Chain {
  /** Repository of the format `basebackup`; its only instance is `INSTANCE`. */
  readonly repository: string
  readonly form: Form
}

/** What pg_combinebackup made. */
export interface Combined {
  readonly data: string
  /** Parent of `<oid>` directories. */
  readonly tablespaces: string
}

export interface Chains {
  readonly directory: string
  readonly cluster: Cluster
  /** By the names of the forms. */
  readonly chains: ReadonlyMap<string, Chain>
  /** What `select` was when each backup was taken. */
  readonly rows: Readonly<Record<Label, string>>
  /** Combines a backup with all on which it builds. */
  combine(chain: Chain, label: Label): Promise<Combined>
  remove(): Promise<void>
}

export interface History {
  /** More of postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>
  /** What is done before the first backup. */
  readonly fill: (cluster: Cluster, tablespace: string) => Promise<void>
  /** What is done after it, and after the second one. */
  readonly changes: readonly [(cluster: Cluster) => Promise<void>, (cluster: Cluster) => Promise<void>]
  /** SQL whose one row tells all contents, in `DATABASE`. */
  readonly select: string
}

/** Makes the production and takes the backups, each in every form; the production goes on running. */
export async function makeChains(forms: Readonly<Record<string, Form>>, history: History): Promise<Chains> {
  const account = await postgresAccount()
  const directory = await scratchDirectory('howdah-chains-')
  await chmod(directory, 0o755)
  const makeDirectory = async (path: string): Promise<void> => {
    await mkdir(path, { recursive: true })
    await chown(path, account.uid, account.gid)
  }
  for (const name of ['production', 'tablespace']) await makeDirectory(join(directory, name))
  const tablespace = join(directory, 'tablespace')
  const cluster = await makeCluster({
    directory: join(directory, 'production'),
    account,
    configuration: 'inside',
    settings: {
      summarize_wal: 'on',
      wal_level: 'replica',
      autovacuum: 'off',
      checkpoint_timeout: '1h',
      max_wal_size: '4GB',
      ...history.settings,
    },
  })

  async function remove(): Promise<void> {
    await cluster.stop('immediate')
    await rm(directory, { recursive: true, force: true })
  }

  async function take({ repository, form }: Chain, label: Label, parent: Label | undefined): Promise<void> {
    const home = join(repository, INSTANCE)
    await makeDirectory(home)
    // Below the repository, and not within the instance.
    const copy = join(repository, '.tablespaces', label)
    if (form === PLAIN) await makeDirectory(join(repository, '.tablespaces'))
    await runAs(account, join(POSTGRES_BIN, 'pg_basebackup'), [
      ...['-D', join(home, label), '-h', cluster.socketDirectory, '-p', String(cluster.port)],
      ...['-U', cluster.user, '-c', 'fast', '--no-sync'],
      ...(form === PLAIN ? ['-T', `${tablespace}=${copy}`] : []),
      ...(parent === undefined ? [] : [`--incremental=${join(home, parent, 'backup_manifest')}`]),
      ...form,
    ])
  }

  try {
    const chains = new Map<string, Chain>()
    for (const [name, form] of Object.entries(forms)) {
      const repository = join(directory, 'repositories', name)
      await makeDirectory(repository)
      chains.set(name, { repository, form })
    }
    await cluster.start()
    await cluster.sql(`CREATE DATABASE ${DATABASE}`)
    await history.fill(cluster, tablespace)
    const rows: Partial<Record<Label, string>> = {}
    for (const [index, label] of LABELS.entries()) {
      if (index > 0) await history.changes[index - 1]?.(cluster)
      rows[label] = await cluster.sql(history.select, DATABASE)
      for (const chain of chains.values()) await take(chain, label, LABELS[index - 1])
    }
    let count = 0
    return {
      ...{ directory, cluster, chains, remove },
      rows: rows as Record<Label, string>,
      async combine(chain, label) {
        const home = join(directory, `combined-${count++}`)
        return combineChain(chain, LABELS.slice(0, LABELS.indexOf(label) + 1), home)
      },
    }
  } catch (error) {
    await remove()
    throw error
  }
}

/** By pg_combinebackup, with archives extracted by tar. */
async function combineChain(
  { repository, form }: Chain,
  labels: readonly Label[],
  home: string,
): Promise<Combined> {
  const data = join(home, 'data')
  const tablespaces = join(home, 'tablespaces')
  await mkdir(tablespaces, { recursive: true })
  const inputs: string[] = []
  for (const label of labels) {
    const directory = join(repository, INSTANCE, label)
    inputs.push(form === PLAIN ? directory : await extract(directory, join(home, 'extracted', label)))
  }
  const newest = inputs.at(-1) ?? ''
  const mapped: string[] = []
  for (const oid of await readdir(join(newest, 'pg_tblspc'))) {
    const from = await realpath(join(newest, 'pg_tblspc', oid))
    mapped.push('-T', `${from}=${join(tablespaces, oid)}`)
  }
  await run(join(POSTGRES_BIN, 'pg_combinebackup'), [...inputs, ...mapped, '-o', data, '--no-sync'], {
    // Of the account that runs the test.
    env: { ...process.env, LANG: 'C.UTF-8' },
  })
  return { data, tablespaces }
}

/** Extracts the archives of a backup into `home`, as its documentation says. @returns the data directory */
async function extract(directory: string, home: string): Promise<string> {
  const data = join(home, 'data')
  const archives = (await readdir(directory)).flatMap((name) => {
    const [, stem] = /^(\w+)\.tar/.exec(name) ?? []
    return stem === undefined ? [] : [{ name, stem }]
  })
  for (const { name, stem } of archives) {
    const into = stem === 'base' ? data : stem === 'pg_wal' ? join(data, 'pg_wal') : join(home, stem)
    await mkdir(into, { recursive: true, mode: 0o700 })
    await unpack(join(directory, name), into)
  }
  for (const { stem } of archives.filter(({ stem: name }) => /^\d+$/.test(name))) {
    await rm(join(data, 'pg_tblspc', stem), { recursive: true, force: true })
    await symlink(join(home, stem), join(data, 'pg_tblspc', stem))
  }
  await run('cp', [join(directory, 'backup_manifest'), data])
  return data
}

/** Extracts a tar archive by tar itself. */
export async function unpack(archive: string, into: string): Promise<void> {
  const program = { gz: 'gzip', lz4: 'lz4', zst: 'zstd' }[archive.replace(/^.*\./, '')]
  const decode = program === undefined ? 'cat' : `${program} -dc`
  await run('sh', ['-c', `${decode} "$1" | tar -x -p -C "$2"`, 'sh', archive, into])
}

/** WAL of a combined backup: names, and how to read one. */
export async function walOf({ data }: Combined) {
  const directory = join(data, 'pg_wal')
  const wal = (await readdir(directory)).filter((name) => /^[0-9A-F]{24}$/.test(name))
  return { wal, getWal: (name: string) => readFile(join(directory, name)) }
}
