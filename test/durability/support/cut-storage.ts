/**
 * What is under an engine that can lose power: its disk, the journal's batches, and service calls that complete on request.
 * Fetched blocks are no part of it: their store loses nothing here.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { Batch } from '../../../agents/target/filesystem/durability/journal.ts'
import type { FetchedIndex } from '../../../agents/target/filesystem/fetched/fetched-index.ts'
import type { Services } from '../../../agents/target/filesystem/services.ts'
import { pattern } from '../../filesystem/support/memory-source.ts'
import { CUT_FILES } from './cut-steps.ts'
import type { Disk, Survivors } from './disk.ts'
import type { Random } from './random.ts'

/** What a power cut leaves. */
export interface Image {
  readonly disk: Disk
  readonly batches: readonly Batch[]
}

/** A pending service call: completes it. */
type Work = () => void

/** The files of the backup. */
export const contents = Object.fromEntries(
  Object.entries(CUT_FILES).map(([path, size], index) => [path, pattern(size, index + 1)]),
)
const fileOrder = Object.keys(contents).sort()

export class CutStorage implements Image {
  readonly disk: Disk
  readonly batches: Batch[]
  /** Calls complete at once. */
  automatic = false
  /** Commits in progress, oldest first. */
  readonly #outgoing: Batch[] = []
  readonly #works: Work[] = []

  constructor({ disk, batches }: Image) {
    this.disk = disk
    this.batches = [...batches]
  }

  /** Of the engine; reads complete some steps later, syncs and commits when they are completed here. */
  services(random: Random, store: FetchedIndex | undefined): Services {
    const plain = immediate(
      this.disk,
      (batch) => this.#commit(batch),
      (work) => this.#wait(work),
    )
    return {
      ...plain,
      async read(file, offset, length) {
        for (let turns = random.below(4); turns > 0; turns--) await turn()
        return plain.read(file, offset, length)
      },
      reserveFetched: async (unused) => store?.reserve(unused),
      saveFetched: async (chunks) => store?.save(chunks) ?? [],
      dropFetched: async (file, slots) => store?.drop(file, slots),
    }
  }

  /** Completes one call. Syncs end in any order, commits one after another. */
  complete(which: number): void {
    const [work] = this.#works.splice(which % Math.max(1, this.#works.length), 1)
    work?.()
  }

  /** Completes all calls, and those that follow from them. */
  async settle(): Promise<void> {
    while (this.#works.length > 0) {
      this.#works.shift()?.()
      await turn()
    }
  }

  /** What a power cut would leave now. */
  cut(left: Survivors, random: Random): Image {
    // A commit in progress is durable as a whole or not at all.
    const more = this.#outgoing.slice(0, random.below(this.#outgoing.length + 1))
    return { disk: this.disk.image(left), batches: [...this.batches, ...more] }
  }

  #wait(work: Work): void {
    if (this.automatic) work()
    else this.#works.push(work)
  }

  #commit(batch: Batch): Promise<void> {
    return new Promise((resolve) => {
      this.#outgoing.push(structuredClone(batch))
      this.disk.onEvent()
      this.#wait(() => {
        const done = this.#outgoing.shift()
        if (done !== undefined) this.batches.push(done)
        this.disk.onEvent()
        resolve()
      })
    })
  }
}

/** Services that keep no fetched block. `wait`: is given what completes a sync; by default that is done at once. */
export function immediate(
  on: Disk,
  commit: Services['commit'],
  wait: (work: Work) => void = (work) => work(),
): Services {
  const sync = (fd: number) =>
    new Promise<void>((resolve) => {
      const end = on.beginSync(fd)
      wait(() => {
        end()
        resolve()
      })
    })
  return {
    read: async (file, offset, length) =>
      Buffer.from((contents[fileOrder[file] ?? ''] ?? Buffer.alloc(0)).subarray(offset, offset + length)),
    readMany: () => Promise.reject(new Error('nothing asks for this')),
    walSize: async () => undefined,
    walRead: async () => Buffer.alloc(0),
    write: () => Promise.reject(new Error('nothing asks for this')),
    sync,
    syncDirectory: sync,
    syncFileSystem: () => Promise.reject(new Error('nothing asks for this')),
    close: async (fd) => on.closeSync(fd),
    commit,
    reserveFetched: async () => undefined,
    saveFetched: async () => [],
    dropFetched: async () => undefined,
  }
}
