/** Rows of a base tree while it is built: columns that grow. */
import type { RowColumns } from './tree-columns.ts'

const FIRST_ROWS = 4096

export interface Row {
  readonly parent: number
  /** As `st_mode`. */
  readonly mode: number
  /** Seconds since the epoch. */
  readonly mtime: number
  readonly size: number
  /** -1 without content in the backup. */
  readonly file: number
  /** The name is the part of `path` from `nameAt` on. */
  readonly path: string
  readonly nameAt: number
  /** Target of a symbolic link, or content of an extra file. */
  readonly text: string | undefined
}

export class TreeRows {
  #parents = new Int32Array(FIRST_ROWS)
  #modes = new Uint16Array(FIRST_ROWS)
  #mtimes = new Float64Array(FIRST_ROWS)
  #sizes = new Float64Array(FIRST_ROWS)
  #files = new Float64Array(FIRST_ROWS)
  #nameStarts = new Uint32Array(FIRST_ROWS)
  #names = Buffer.alloc(16 * FIRST_ROWS)
  #nameEnd = 0
  readonly #textInos: number[] = []
  readonly #texts: Buffer[] = []
  /** Row 0 is unused. */
  #length = 1

  /** Returns the row's number. */
  add({ parent, mode, mtime, size, file, path, nameAt, text }: Row): number {
    const ino = this.#length
    // One more element, for the end of the last name.
    if (ino + 1 >= this.#parents.length) this.#grow()
    this.#length += 1
    this.#parents[ino] = parent
    this.#modes[ino] = mode
    this.#mtimes[ino] = mtime
    this.#sizes[ino] = size
    this.#files[ino] = file
    this.#nameStarts[ino] = this.#nameEnd
    this.#writeName(path, nameAt)
    this.#nameStarts[ino + 1] = this.#nameEnd
    if (text !== undefined) {
      this.#textInos.push(ino)
      this.#texts.push(Buffer.from(text))
    }
    return ino
  }

  setMtime(ino: number, mtime: number): void {
    this.#mtimes[ino] = mtime
  }

  mtime(ino: number): number {
    return this.#mtimes[ino] ?? 0
  }

  get length(): number {
    return this.#length
  }

  finish(): RowColumns {
    const length = this.#length
    const textStarts = new Uint32Array(this.#texts.length + 1)
    let textEnd = 0
    for (const [index, text] of this.#texts.entries()) {
      textEnd += text.length
      textStarts[index + 1] = textEnd
    }
    const texts = new Uint8Array(textEnd)
    for (const [index, text] of this.#texts.entries()) texts.set(text, textStarts[index])
    return {
      parents: this.#parents.slice(0, length),
      modes: this.#modes.slice(0, length),
      mtimes: this.#mtimes.slice(0, length),
      sizes: this.#sizes.slice(0, length),
      files: this.#files.slice(0, length),
      nameStarts: this.#nameStarts.slice(0, length + 1),
      names: new Uint8Array(this.#names.subarray(0, this.#nameEnd)),
      textInos: Int32Array.from(this.#textInos),
      textStarts,
      texts,
    }
  }

  #writeName(path: string, nameAt: number): void {
    const { length } = path
    if (this.#nameEnd + 3 * (length - nameAt) > this.#names.length) {
      this.#names = Buffer.concat([this.#names], this.#names.length * 2 + 3 * length)
    }
    const names = this.#names
    let end = this.#nameEnd
    for (let at = nameAt; at < length; at++) {
      const code = path.charCodeAt(at)
      if (code >= 0x80) {
        this.#nameEnd += names.write(path.slice(nameAt), this.#nameEnd)
        return
      }
      names[end++] = code
    }
    this.#nameEnd = end
  }

  #grow(): void {
    const length = this.#parents.length * 2
    this.#parents = grown(this.#parents, new Int32Array(length))
    this.#modes = grown(this.#modes, new Uint16Array(length))
    this.#mtimes = grown(this.#mtimes, new Float64Array(length))
    this.#sizes = grown(this.#sizes, new Float64Array(length))
    this.#files = grown(this.#files, new Float64Array(length))
    this.#nameStarts = grown(this.#nameStarts, new Uint32Array(length))
  }
}

function grown<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from)
  return to
}
