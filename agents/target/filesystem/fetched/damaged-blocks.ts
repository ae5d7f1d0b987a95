/** Blocks that are damaged in the repository, by file: they are not kept in the fetched store. */

/** With more damaged blocks than this, the whole file counts as damaged. */
const MANY = 1000

export class DamagedBlocks {
  readonly #blocks = new Map<number, Set<number>>()

  has(file: number, block: number): boolean {
    if (this.#blocks.size === 0) return false
    const blocks = this.#blocks.get(file)
    return blocks !== undefined && (blocks.size > MANY || blocks.has(block))
  }

  /** Returns true when the whole file counts as damaged from now on. */
  add(file: number, block: number): boolean {
    const blocks = this.#blocks.get(file) ?? new Set()
    this.#blocks.set(file, blocks)
    if (blocks.size > MANY) return false
    blocks.add(block)
    return blocks.size > MANY
  }
}
