/** Restores backups with pgBackRest itself, for the conformance suite. */
import { chown, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { postgresAccount, runAs } from '../support/postgres-cluster.ts'
import type { Subject } from './conformance.ts'

export interface PgBackRestBackup {
  readonly repository: string
  readonly stanza: string
  readonly label: string
  readonly configFile: string
  /** Names of WAL files in the archive. */
  readonly wal: readonly string[]
  /** A data directory of the cluster, for archive-get. */
  readonly pgPath: string
}

/** @param scratch a directory in which it is restored */
export async function restored(scratch: string, backup: PgBackRestBackup): Promise<Subject> {
  const { repository, stanza, label, configFile, wal, pgPath } = backup
  const account = await postgresAccount()
  const home = join(scratch, label)
  const data = join(home, 'data')
  const tablespaces = join(home, 'tablespaces')
  for (const made of [home, data, tablespaces]) {
    await mkdir(made, { recursive: true })
    await chown(made, account.uid, account.gid)
  }
  const common = [`--config=${configFile}`, `--stanza=${stanza}`, '--log-level-console=error']
  await runAs(account, 'pgbackrest', [
    ...common,
    ...[`--set=${label}`, `--pg1-path=${data}`, `--tablespace-map-all=${tablespaces}`, '--type=none'],
    'restore',
  ])
  const oids = await runAs(account, 'ls', [join(data, 'pg_tblspc')])
  // Restored by name; the suite knows tablespaces by OID.
  for (const oid of oids.split('\n').filter((line) => line !== '')) {
    const target = await runAs(account, 'readlink', [join(data, 'pg_tblspc', oid)])
    if (target.trim() !== join(tablespaces, oid)) {
      await runAs(account, 'mv', [target.trim(), join(tablespaces, oid)])
    }
  }
  return {
    format: 'pgbackrest',
    repository,
    configFile,
    instance: stanza,
    label,
    data,
    tablespaces,
    ignored: ['data/tablespace_map', 'data/postgresql.auto.conf', 'data/recovery.signal'],
    wal,
    async getWal(name) {
      const destination = join(home, name)
      await runAs(account, 'pgbackrest', [
        ...common,
        `--pg1-path=${pgPath}`,
        ...['archive-get', name, destination],
      ])
      return readFile(destination)
    },
  }
}
