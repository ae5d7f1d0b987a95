/** Owns what the groups of figures share in one run: how much is measured, and productions that are made once. */
import { rm, symlink } from 'node:fs/promises'
import path from 'node:path'
import type { RepositoryConfig } from '../../config/formats.ts'
import { makeProduction, type Production } from '../support/production.ts'
import type { Figure } from './figure.ts'
import type { Scope } from './scope.ts'

/** A file of groups/ measures one group; it closes what it opens in its scope, or leaves that to the caller. */
export type Group = (workshop: Workshop, scope: Scope) => Promise<readonly Figure[]>

export interface Workshop {
  readonly amounts: Amounts
  /** A production of this pgbench scale with a backup, stopped; lives until the bench ends. */
  production(scale: number): Promise<StockedProduction>
  /** A remark on what was measured; shown below the table. */
  note(text: string): void
  /** Progress, on stderr. */
  say(text: string): void
}

export interface StockedProduction extends Production {
  /** A plain pg_basebackup of it: `<path>/<instance>` is the data directory. */
  plainBackup(): Promise<{ readonly path: string; readonly instance: string; readonly data: string }>
  /**
   * Repositories `name-0`, `name-1`, … that are this one by other paths, so that nothing that was decoded or fetched for
   * one is used for another.
   */
  views(name: string, count: number): Promise<RepositoryConfig[]>
}

export interface Amounts {
  readonly quick: boolean
  /** pgbench scales, about 15 MB each. */
  readonly small: number
  readonly large: number
  readonly publishes: number
  /** Turns of replaying WAL, each in four ways. */
  readonly replays: number
  /** Turns of everything else. */
  readonly turns: number
  readonly readOnlySeconds: number
  readonly tpcbSeconds: number
  /** Of each fio run without a number of bytes. */
  readonly fioSeconds: number
  /** Bytes of the file that fio works on. */
  readonly fileBytes: number
  /** Cold reads of 8 KiB in one turn. */
  readonly coldReads: number
  readonly overlayTurns: number
  readonly firstMinuteSeconds: number
  /** WAL segments that are replayed. */
  readonly segments: number
  /** Blocks of the table that PostgreSQL scans. */
  readonly scannedBlocks: number
}

export const FULL: Amounts = {
  quick: false,
  small: 100,
  large: 400,
  publishes: 5,
  replays: 5,
  turns: 3,
  readOnlySeconds: 20,
  tpcbSeconds: 20,
  fioSeconds: 4,
  fileBytes: 1024 ** 3,
  coldReads: 8_000,
  overlayTurns: 2,
  firstMinuteSeconds: 60,
  segments: 84,
  scannedBlocks: 40_000,
}

export const QUICK: Amounts = {
  quick: true,
  small: 20,
  large: 60,
  publishes: 2,
  replays: 1,
  turns: 2,
  readOnlySeconds: 4,
  tpcbSeconds: 5,
  fioSeconds: 2,
  fileBytes: 256 * 1024 ** 2,
  coldReads: 2_000,
  overlayTurns: 1,
  firstMinuteSeconds: 10,
  segments: 8,
  scannedBlocks: 4_000,
}

export const NOTES = 11_000

export function createWorkshop(amounts: Amounts, scope: Scope, notes: string[]): Workshop {
  const productions = new Map<number, Promise<StockedProduction>>()
  const say = (text: string): void => {
    process.stderr.write(`${text}\n`)
  }

  async function make(scale: number): Promise<StockedProduction> {
    say(`  making a production of pgbench scale ${scale} and its backup …`)
    const production = await makeProduction({
      scale,
      compress: 'gz',
      tablespace: false,
      // PostgreSQL's default of shared_buffers, so that reads reach the file system.
      settings: { fsync: 'on', autovacuum: 'off', shared_buffers: '128MB' },
    })
    scope.defer('a production', () => production.remove())
    // As on a production after some hours: otherwise both would first replay the WAL of vacuuming the loaded tables.
    await production.sql('VACUUM (FREEZE, ANALYZE)')
    await production.sql('CREATE EXTENSION pg_prewarm')
    await production.sql('CHECKPOINT')
    await production.backup('full')
    await production.writeNotes(10_000, 'after the backup')
    await production.switchWal()
    await production.stop()
    const plain = { path: path.join(production.directory, 'plain'), instance: 'shop' }
    const data = path.join(plain.path, plain.instance)
    let taken: Promise<void> | undefined

    async function takePlainBackup(): Promise<void> {
      say('  taking a plain backup of it …')
      await production.start()
      await production.basebackup(data)
      await production.stop()
    }

    return {
      ...production,
      async plainBackup() {
        taken ??= takePlainBackup()
        await taken
        return { ...plain, data }
      },
      async views(name, count) {
        return Promise.all(
          Array.from({ length: count }, async (_, index): Promise<RepositoryConfig> => {
            const view = path.join(production.directory, `${name}-${index}`)
            await rm(view, { force: true })
            await symlink(production.path, view)
            return { name: `${name}-${index}`, format: 'pgbackrest', path: view }
          }),
        )
      },
    }
  }

  return {
    amounts,
    production(scale) {
      let made = productions.get(scale)
      if (made === undefined) {
        made = make(scale)
        productions.set(scale, made)
      }
      return made
    },
    note: (text) => {
      notes.push(text)
    },
    say,
  }
}
