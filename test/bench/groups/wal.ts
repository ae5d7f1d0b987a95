/**
 * Measures recovery through `wal/` of a mount, beside PostgreSQL's recovery from a local directory of plain segments and beside
 * pgBackRest's archive-get; through `wal/` also from far away.
 */
import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import {
  recoverySettings,
  restoreScript,
} from '../../../agents/target/postgres/settings/recovery-settings.ts'
import { type InstanceSpec, instancePaths } from '../../../agents/target/postgres/specification.ts'
import { POSTGRES_BIN, POSTGRES_MAJOR, postgresAccount } from '../../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../../support/production.ts'
import { serveBackup } from '../data-plane.ts'
import { delayingProxy } from '../delaying-proxy.ts'
import type { Figure } from '../figure.ts'
import { pgbench, startPostgres } from '../postgres.ts'
import type { Scope } from '../scope.ts'
import type { Workshop } from '../workshop.ts'

const SEGMENT_BYTES = 16 * 1024 ** 2
const ROUND_TRIP_MS = 20
const POINT = 'replayed'
const DEADLINE_MS = 600_000
/** Seconds of pgbench between checks of how much WAL it has made. */
const LOAD_SECONDS = 5
/** Below this a difference cannot be distinguished from none. */
const LEAST_COST_MS = 0.1
const COPIED = 'cp from a local directory'
const run = promisify(execFile)

/** A way to get segments: its restore_command for a data directory. */
type Way = (turn: Scope, directory: string) => Promise<string>

interface Archived {
  readonly production: Production
  readonly label: string
  /** A copy of the data directory at the beginning of the WAL. */
  readonly template: string
  /** The same segments as in the repository's archive, plain. */
  readonly plain: string
  /** The first segment of a replay. */
  readonly firstWal: string
  readonly segments: number
}

export async function wal(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const { amounts, say } = workshop
  const archived = await makeArchive(workshop, scope)
  const { production, label, plain, firstWal, segments } = archived
  const served = await serveBackup(
    scope,
    { format: 'pgbackrest', path: production.path },
    { instance: production.stanza, backup: label },
  )
  const far = await delayingProxy(scope, served.port, ROUND_TRIP_MS)
  const throughMount =
    (port: number): Way =>
    async (turn) => {
      const owner = await postgresAccount()
      const { mountPoint, cachePath } = await served.mount(turn, { owner, port, firstWal })
      return mountCommand(mountPoint, cachePath)
    }
  const archiveGet: Way = async (_, directory) =>
    `pgbackrest --config=${production.configFile} --stanza=${production.stanza} --pg1-path=${directory}/data archive-get %f "%p"`
  const ways = {
    near: throughMount(served.port),
    local: async () => `cp ${plain}/%f "%p"`,
    far: throughMount(far),
    archiveGet,
  } satisfies Record<string, Way>
  const seconds = {
    near: [] as number[],
    local: [] as number[],
    far: [] as number[],
    archiveGet: [] as number[],
  }
  for (let turn = 0; turn < amounts.replays; turn++) {
    for (const name of Object.keys(ways) as (keyof typeof ways)[]) {
      scope.check()
      const took = await replay(scope, archived, ways[name])
      seconds[name].push(took)
      say(`  replay (${name}), ${turn + 1} of ${amounts.replays}: ${took} s`)
    }
  }
  workshop.note(`replayed: ${segments} segments of pgbench's WAL, gz in the repository`)
  const added = (values: readonly number[]) =>
    values.map((value, turn) =>
      Math.max(LEAST_COST_MS, ((value - (seconds.local[turn] ?? value)) * 1000) / segments),
    )
  const copied = { what: COPIED, values: seconds.local }
  const common = { unit: 's', better: 'less' } as const
  return [
    {
      ...common,
      name: 'replay of WAL through wal/',
      howdah: seconds.near,
      instead: copied,
      target: { of: 'ratio', limit: 0.952 },
    },
    {
      ...common,
      name: `the same, repository ${ROUND_TRIP_MS} ms away`,
      howdah: seconds.far,
      instead: copied,
      target: { of: 'ratio', limit: 0.909 },
    },
    {
      name: 'added to replay by each WAL segment',
      unit: 'ms',
      better: 'less',
      howdah: added(seconds.near),
      instead: { what: 'pgbackrest archive-get', values: added(seconds.archiveGet) },
      target: { of: 'ratio', limit: 3 },
    },
    {
      ...common,
      name: 'replay of WAL, all of it',
      howdah: seconds.near,
      instead: { what: 'pgbackrest archive-get', values: seconds.archiveGet },
    },
  ]
}

async function makeArchive({ amounts, say }: Workshop, scope: Scope): Promise<Archived> {
  say(`  making ${amounts.segments} segments of WAL …`)
  const production = await makeProduction({
    scale: amounts.small / 4,
    compress: 'gz',
    tablespace: false,
    // PostgreSQL's default of checkpoints.
    settings: {
      ...{ fsync: 'off', synchronous_commit: 'off', autovacuum: 'off' },
      ...{ checkpoint_timeout: '5min', max_wal_size: '1GB' },
    },
  })
  scope.defer('a production', () => production.remove())
  const account = await postgresAccount()
  const plain = path.join(production.directory, 'plain-segments')
  await mkdir(plain)
  await chown(plain, account.uid, account.gid)
  const label = await production.backup('full')
  const template = path.join(production.directory, 'template')
  await production.basebackup(template)
  const [firstWal = ''] =
    /[0-9A-F]{24}/.exec(await readFile(path.join(template, 'backup_label'), 'utf8')) ?? []
  // PostgreSQL starts with no other mode.
  await chmod(template, 0o700)
  await production.sql(
    `ALTER SYSTEM SET archive_command = 'cp %p ${plain}/%f && pgbackrest --config=${production.configFile} --stanza=${production.stanza} archive-push "%p"'`,
  )
  await production.sql('SELECT pg_reload_conf()')
  const position = async () => Number(await production.sql(`SELECT pg_current_wal_lsn() - '0/0'`))
  const begin = await position()
  const { socketDirectory: host, port, user, database } = production
  const wanted = amounts.segments * SEGMENT_BYTES
  while ((await position()) - begin < wanted) {
    scope.check()
    await pgbench({ host, port, user, database }, LOAD_SECONDS, ['-M', 'prepared'])
  }
  await production.sql(`SELECT pg_create_restore_point('${POINT}')`)
  const last = await production.sql('SELECT pg_walfile_name(pg_switch_wal())')
  const deadline = Date.now() + DEADLINE_MS
  while ((await production.sql('SELECT last_archived_wal FROM pg_stat_archiver')) < last) {
    scope.check()
    if (Date.now() > deadline) throw new Error(`${last} was not archived`)
    await sleep(200)
  }
  const segments = Math.round(((await position()) - begin) / SEGMENT_BYTES)
  await production.stop()
  return { production, label, template, plain, firstWal, segments }
}

/** The command that a published instance has, with the script behind it. */
async function mountCommand(mountPoint: string, cachePath: string): Promise<string> {
  const account = await postgresAccount()
  const spec: InstanceSpec = {
    ...{ session: 'bench', mountPoint, cachePath, binaries: POSTGRES_BIN, version: POSTGRES_MAJOR },
    ...{ user: account, port: 0, recoverTo: { type: 'name', value: POINT } },
  }
  const { configuration, restoreScript: script } = instancePaths(spec)
  await mkdir(configuration)
  await writeFile(script, restoreScript(spec, SEGMENT_BYTES))
  const command = recoverySettings(spec).get('restore_command')
  if (command === undefined) throw new Error('a published instance has no restore_command')
  return command
}

/** Seconds from PostgreSQL's first record to its last, as its log says. */
async function replay(scope: Scope, { template }: Archived, way: Way): Promise<number> {
  const turn = scope.inner()
  try {
    const account = await postgresAccount()
    const directory = await mkdtemp('/var/tmp/howdah-bench-replay-')
    turn.defer(directory, () => rm(directory, { recursive: true, force: true }))
    await chown(directory, account.uid, account.gid)
    await run('cp', ['-a', '--reflink=auto', template, `${directory}/data`])
    await writeFile(`${directory}/data/recovery.signal`, '')
    await chown(`${directory}/data/recovery.signal`, account.uid, account.gid)
    const restoreCommand = await way(turn, directory)
    // What the copy left dirty must not be written during the replay.
    await run('sync')
    await startPostgres(turn, {
      data: `${directory}/data`,
      directory,
      database: 'postgres',
      settings: new Map([
        ['restore_command', restoreCommand],
        ['recovery_target_name', POINT],
        ['recovery_target_action', 'promote'],
        ['archive_mode', 'off'],
        ['hot_standby', 'off'],
        ['fsync', 'off'],
        ['shared_buffers', '256MB'],
        ['max_wal_size', '16GB'],
        ['checkpoint_timeout', '1h'],
      ]),
    })
    return await replayed(turn, `${directory}/postgresql.log`)
  } finally {
    await turn.close()
  }
}

/** A message of PostgreSQL 15 (access/transam/xlogrecovery.c, PerformWalRecovery). */
async function replayed(scope: Scope, log: string): Promise<number> {
  const deadline = Date.now() + DEADLINE_MS
  for (;;) {
    scope.check()
    const text = await readFile(log, 'utf8')
    const elapsed = /redo done at .* elapsed: ([\d.]+) s/.exec(text)?.[1]
    if (elapsed !== undefined) return Number(elapsed)
    if (/FATAL|PANIC/.test(text) || Date.now() > deadline)
      throw new Error(`the replay failed: ${text.slice(-2000)}`)
    await sleep(100)
  }
}
