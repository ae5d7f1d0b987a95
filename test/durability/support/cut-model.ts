/**
 * What a write cache may hold after a power cut, as ARCHITECTURE.md promises: every file has contents that it had at its
 * last sync or since, sector by sector; the names are those of one moment since they were last made durable.
 */
import type { Ino } from '../../../agents/target/filesystem/file-system.ts'
import { SECTOR } from './disk.ts'

interface Version<T> {
  readonly step: number
  readonly value: T
}

/** What is certain at the moment of a cut. */
export interface Certain {
  /** Names are as after this step, or as after a later one. */
  readonly names: number
  /** Contents by file, likewise. */
  readonly contents: ReadonlyMap<Ino, number>
  /** Nothing after this step can have happened. */
  readonly now: number
}

export interface FoundFile {
  readonly ino: Ino
  readonly path: string
  readonly content: Buffer
}

export class CutModel {
  /** The step that is being done. */
  step = 0
  readonly #names: Version<string>[] = []
  readonly #contents = new Map<Ino, Version<Buffer>[]>()
  /** The last step that changed the names of a file. */
  readonly #renamed = new Map<Ino, number>()
  #certainNames = 0
  readonly #certainContents = new Map<Ino, number>()

  /** Names as they are after the current step; one line for each, which begins with the inode number. */
  noteNames(lines: readonly string[]): void {
    const value = lines.join('\n')
    const before = this.#names.at(-1)?.value
    if (value === before) return
    const known = new Set(before?.split('\n'))
    const here = new Set(lines)
    for (const line of [
      ...lines.filter((one) => !known.has(one)),
      ...[...known].filter((one) => !here.has(one)),
    ]) {
      this.#renamed.set(Number.parseInt(line, 10), this.step)
    }
    this.#names.push({ step: this.step, value })
  }

  noteContent(ino: Ino, value: Buffer): void {
    const versions = this.#contents.get(ino)
    const version = { step: this.step, value }
    if (versions === undefined) this.#contents.set(ino, [version])
    else versions.push(version)
  }

  content(ino: Ino): Buffer {
    return this.#contents.get(ino)?.at(-1)?.value ?? Buffer.alloc(0)
  }

  knows(ino: Ino): boolean {
    return this.#contents.has(ino)
  }

  /** Every file's contents as they were after a step, or newer, are durable. */
  allContentsDurable(step: number): void {
    for (const ino of this.#contents.keys()) this.#contentDurable(ino, step)
  }

  namesDurable(step: number): void {
    this.#certainNames = Math.max(this.#certainNames, step)
  }

  /** A sync of a file that was requested at a step has succeeded: `renamed` as `lastRename` was then. */
  fileDurable(ino: Ino, step: number, renamed: number): void {
    this.#contentDurable(ino, step)
    this.namesDurable(renamed)
  }

  lastRename(ino: Ino): number {
    return this.#renamed.get(ino) ?? 0
  }

  get certain(): Certain {
    return { names: this.#certainNames, contents: new Map(this.#certainContents), now: this.step }
  }

  /** What is wrong with the state found; undefined: nothing. */
  judge(certain: Certain, lines: readonly string[], files: readonly FoundFile[]): string | undefined {
    const found = lines.join('\n')
    const possible = between(this.#names, certain.names, certain.now)
    if (!possible.includes(found)) {
      return `the names are of no moment since the last sync: ${differences(lines, possible)}`
    }
    for (const file of files) {
      const states = between(
        this.#contents.get(file.ino) ?? [],
        certain.contents.get(file.ino) ?? 0,
        certain.now,
      )
      const wrong = wrongIn(file.content, states)
      if (wrong !== undefined) return `${file.path} (inode ${file.ino}): ${wrong}`
    }
    return undefined
  }

  #contentDurable(ino: Ino, step: number): void {
    this.#certainContents.set(ino, Math.max(this.#certainContents.get(ino) ?? 0, step))
  }
}

/** What was found beside each of the possible names. */
function differences(found: readonly string[], possible: readonly string[]): string {
  return possible
    .map((names) => {
      const lines = names.split('\n')
      const more = found.filter((line) => !lines.includes(line))
      const missing = lines.filter((line) => !found.includes(line))
      return `[${more}] instead of [${missing}]`
    })
    .join(' or ')
}

/** The values that were there from one step to another, the one that `from` began with included. */
function between<T>(versions: readonly Version<T>[], from: number, to: number): T[] {
  const begins = versions.findLastIndex(({ step }) => step <= from)
  return versions
    .slice(Math.max(0, begins))
    .filter(({ step }) => step <= to)
    .map(({ value }) => value)
}

function wrongIn(content: Buffer, states: readonly Buffer[]): string | undefined {
  if (!states.some(({ length }) => length === content.length)) {
    return `its size ${content.length} is none of ${states.map(({ length }) => length).join(', ')}`
  }
  for (let at = 0; at < content.length; at += SECTOR) {
    const end = Math.min(at + SECTOR, content.length)
    if (!states.some((state) => sameRange(content, state, at, end))) {
      return `the bytes from ${at} to ${end} are of no moment since its last sync (of ${states.length})`
    }
  }
  return undefined
}

/** A shorter state continues with zeros. */
function sameRange(content: Buffer, state: Buffer, at: number, end: number): boolean {
  const held = Math.min(Math.max(state.length, at), end)
  if (held > at && state.compare(content, at, held, at, held) !== 0) return false
  for (let byte = held; byte < end; byte++) if (content[byte] !== 0) return false
  return true
}
