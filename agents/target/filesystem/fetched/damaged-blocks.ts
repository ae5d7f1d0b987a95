/** Blocks of which the repository has something else than what PostgreSQL wrote, by file: these are not kept. */

/** Damaged blocks of a file from which on all of it counts as damaged. */
const MANY = 1000

export class DamagedBlocks {
  readonly #blocks = new Map<number, Set<number>>()

  has(file: number, block: number): boolean {
    if (this.#blocks.size === 0) return false
    const blocks = this.#blocks.get(file)
    return blocks !== undefined && (blocks.size > MANY || blocks.has(block))
  }

  /** True: from now on the whole file counts as damaged. */
  add(file: number, block: number): boolean {
    const blocks = this.#blocks.get(file) ?? new Set()
    this.#blocks.set(file, blocks)
    if (blocks.size > MANY) return false
    blocks.add(block)
    return blocks.size > MANY
  }
}
