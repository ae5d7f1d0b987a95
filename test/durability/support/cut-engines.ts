/** Opens engines over images of a disk, all of the same backup and with the same fetched store. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { openJournal } from '../../../agents/target/filesystem/durability/journal.ts'
import { createEngine, type Engine } from '../../../agents/target/filesystem/engine.ts'
import {
  type FetchedIndex,
  openFetchedIndex,
} from '../../../agents/target/filesystem/fetched/fetched-index.ts'
import type { Services } from '../../../agents/target/filesystem/services.ts'
import { buildBaseTree } from '../../../agents/target/filesystem/tree/base-tree.ts'
import { publishedTree } from '../../../agents/target/filesystem/tree/published-tree.ts'
import { memorySource } from '../../filesystem/support/memory-source.ts'
import { look, type Seen } from './cut-look.ts'
import { contents, type Image, immediate } from './cut-storage.ts'

/** Enough for everything. */
const STORE_BYTES = 64 * 1024 * 1024

export interface CutEngines {
  openStore(): FetchedIndex | undefined
  /** @throws what the engine does when it cannot open the write cache */
  open(image: Image, services: Services, fetched?: FetchedIndex): Engine
  /** The durable state, read by an engine of its own, so that another still has to fetch blocks. */
  lookAside(image: Image): Promise<Seen>
  end(): void
}

export async function createCutEngines(): Promise<CutEngines> {
  const logger = pino({ level: 'silent' })
  // Its free space is queried; of the engine's files only the fetched store is in it.
  const cachePath = mkdtempSync(join(tmpdir(), 'howdah-cut-'))
  const tree = await buildBaseTree(
    publishedTree(memorySource(contents).tree(), {
      mountPoint: '/m',
      walDirectory: '/w',
      extraFiles: [],
      now: 2000,
    }),
  )

  function open({ disk, batches }: Image, services: Services, fetched?: FetchedIndex): Engine {
    const journal = openJournal(':memory:')
    try {
      for (const batch of batches) journal.commit(batch)
      return createEngine({
        tree,
        cachePath,
        journalState: journal.load(),
        services,
        fetched: fetched?.state,
        owner: { uid: 1, gid: 2 },
        limits: { reserveBytes: 0 },
        logger,
        io: disk,
      })
    } finally {
      journal.close()
    }
  }

  return {
    openStore: () =>
      openFetchedIndex({
        root: join(cachePath, 'fetched'),
        key: 'f'.repeat(40),
        budgetBytes: STORE_BYTES,
        reserveBytes: 0,
        logger,
      }),
    open,
    async lookAside(image) {
      const other = open(
        image,
        immediate(image.disk, async () => undefined),
      )
      try {
        return await look(other)
      } finally {
        other.abandon()
      }
    },
    end: () => rmSync(cachePath, { recursive: true, force: true }),
  }
}
