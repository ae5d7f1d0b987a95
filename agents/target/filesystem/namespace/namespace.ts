/** Which name refers to which inode: the directories of the base tree, overlaid with the session's changes. */

import type { EntryRow } from '../durability/journal.ts'
import type { Ino } from '../file-system.ts'
import { type BaseTree, ROOT } from '../tree/base-tree.ts'

export class Namespace {
  readonly #base: BaseTree
  /** By directory and name; 0 hides a name of the base tree. */
  readonly #changes = new Map<Ino, Map<string, Ino>>()
  /** Parents of directories that are not where the base tree has them. */
  readonly #parents = new Map<Ino, Ino>()

  constructor(base: BaseTree, entries: readonly EntryRow[]) {
    this.#base = base
    for (const { parent, name, ino } of entries) this.#change(parent, name, ino)
  }

  /** 0 when the name does not exist. */
  lookup(parent: Ino, name: string): Ino {
    return this.#changes.get(parent)?.get(name) ?? this.#base.lookup(parent, name)
  }

  set(parent: Ino, name: string, ino: Ino, isDirectory: boolean): void {
    this.#change(parent, name, ino)
    if (isDirectory) this.#parents.set(ino, parent)
  }

  delete(parent: Ino, name: string): void {
    if (this.#base.lookup(parent, name) !== 0) this.#change(parent, name, 0)
    else this.#changes.get(parent)?.delete(name)
  }

  /** Discards the changes of a directory that was removed. */
  forget(directory: Ino): void {
    this.#changes.delete(directory)
    this.#parents.delete(directory)
  }

  *entries(directory: Ino): IterableIterator<[string, Ino]> {
    const changes = this.#changes.get(directory)
    for (const [name, ino] of this.#base.entries(directory)) {
      if (changes?.has(name) !== true) yield [name, ino]
    }
    for (const [name, ino] of changes ?? []) if (ino !== 0) yield [name, ino]
  }

  isEmpty(directory: Ino): boolean {
    return this.entries(directory).next().done === true
  }

  /** Records the parent of a directory from the journal. */
  noteParent(directory: Ino, parent: Ino): void {
    this.#parents.set(directory, parent)
  }

  parent(directory: Ino): Ino {
    return this.#parents.get(directory) ?? this.#base.parent(directory)
  }

  /** Whether a directory is `ancestor` or lies below it. */
  isWithin(directory: Ino, ancestor: Ino): boolean {
    for (let at = directory; at !== ROOT; at = this.parent(at)) if (at === ancestor) return true
    return ancestor === ROOT
  }

  #change(parent: Ino, name: string, ino: Ino): void {
    const changes = this.#changes.get(parent)
    if (changes === undefined) this.#changes.set(parent, new Map([[name, ino]]))
    else changes.set(name, ino)
  }
}
