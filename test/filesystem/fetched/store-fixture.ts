/** Fetched stores in a directory of their own, as the mount process puts them together, without threads. */
import { fdatasyncSync, mkdtempSync, rmSync, writeSync } from 'node:fs'
import { pino } from 'pino'
import {
  type FetchedIndex,
  type FetchedIndexOptions,
  openFetchedIndex,
} from '../../../agents/target/filesystem/fetched/fetched-index.ts'
import { FetchedStore } from '../../../agents/target/filesystem/fetched/fetched-store.ts'

export const KEY = 'a'.repeat(40)
const silent = pino({ level: 'silent' })

export interface OpenStore {
  readonly store: FetchedStore
  readonly index: FetchedIndex | undefined
  /** Calls of the services, in order. */
  readonly asked: string[]
  /** Instead of saving. */
  failSaves: boolean
  /** How many of the next syncs fail. */
  failSyncs: number
  /** Called during a sync. */
  duringSync: () => void
  /** Closes cleanly, with everything saved. */
  close(): Promise<void>
  /** As kill -9 leaves it. */
  crash(): void
}

export interface Stores {
  readonly root: string
  readonly directory: string
  open(options?: Partial<FetchedIndexOptions>, onRoom?: () => void, clock?: () => number): OpenStore
  remove(): void
}

export function makeStores(): Stores {
  const root = mkdtempSync('/var/tmp/howdah-fetched-')
  const opened = new Set<OpenStore>()
  return {
    root,
    directory: `${root}/${KEY}`,
    open(options = {}, onRoom = () => undefined, clock) {
      const index = openFetchedIndex({
        root,
        key: KEY,
        budgetBytes: 1024 ** 4,
        reserveBytes: 0,
        logger: silent,
        ...options,
      })
      const asked: string[] = []
      const store = new FetchedStore({
        state: structuredClone(index?.state),
        logger: silent,
        onRoom,
        ...(clock !== undefined && { clock }),
        services: {
          async write(fd, data, position) {
            asked.push('write')
            writeSync(fd, data, 0, data.length, position)
          },
          async sync(fd) {
            asked.push('sync')
            if (one.failSyncs > 0) {
              one.failSyncs--
              throw Object.assign(new Error('the disk fails'), { code: 'EIO' })
            }
            fdatasyncSync(fd)
            one.duringSync()
          },
          async reserveFetched(unused) {
            asked.push('reserve')
            return index?.reserve(unused)
          },
          async saveFetched(chunks) {
            asked.push('save')
            if (one.failSaves) throw new Error('the index cannot be written')
            return index?.save(chunks) ?? []
          },
          async dropFetched(file, slots) {
            asked.push('drop')
            index?.drop(file, slots)
          },
        },
      })
      const one: OpenStore = {
        store,
        index,
        asked,
        failSaves: false,
        failSyncs: 0,
        duringSync: () => undefined,
        async close() {
          await store.flush()
          one.crash()
        },
        crash() {
          if (!opened.delete(one)) return
          store.close()
          index?.close()
        },
      }
      opened.add(one)
      return one
    },
    remove() {
      for (const one of opened) one.crash()
      rmSync(root, { recursive: true, force: true })
    },
  }
}

/** What a store has of a range; undefined when it has not all of it. */
export function readStore(
  store: FetchedStore,
  file: number,
  position: number,
  length: number,
): Buffer | undefined {
  const buffer = Buffer.alloc(length + 2, 0xee)
  return store.read(file, position, length, buffer, 1) ? buffer.subarray(1, length + 1) : undefined
}
