/**
 * A directory on a disk that can lose power: it knows what was synced, and produces images that a power cut could leave
 * of the rest. Pessimistic: of what was not synced any sector, size and name may be old or new, whatever the order in
 * which they were written; only a sector is never torn.
 */
import { basename } from 'node:path'
import type { LocalIo } from '../../../agents/target/filesystem/contents/data-files.ts'
import type { Random } from './random.ts'

export const SECTOR = 512
/** Above the descriptors that the system gives. */
const DIRECTORY_FD = 1_000_000

/** What happened to a file since it was synced. */
interface Change {
  readonly sequence: number
  /** Sectors from `first` on, as they are after it; zeros when there are none. */
  readonly first: number
  readonly sectors: Buffer | undefined
  readonly size: number
}

class DiskFile {
  /** What the next read returns. */
  content = Buffer.alloc(0)
  size = 0
  durable: Buffer = Buffer.alloc(0)
  readonly pending: Change[] = []
}

interface NameChange {
  readonly sequence: number
  readonly name: string
  /** Undefined: removed. */
  readonly file: DiskFile | undefined
}

/** `none` and `all` of what was not synced, or any of it, in units of so many bytes. */
export type Survivors = 'none' | 'all' | { readonly random: Random; readonly unit: number }

export class Disk implements LocalIo {
  /** Called after every change, and after every sync. */
  onEvent: () => void = () => undefined
  readonly #names = new Map<string, DiskFile>()
  readonly #durableNames = new Map<string, DiskFile>()
  readonly #pendingNames: NameChange[] = []
  readonly #descriptors = new Map<number, DiskFile>()
  #sequence = 0
  #lastDescriptor = DIRECTORY_FD

  mkdirSync(): void {}

  readdirSync(): string[] {
    return [...this.#names.keys()]
  }

  openSync(path: string, flags: number): number {
    // linux/fcntl.h: O_DIRECTORY, as x86 and arm64 have it or not; local files are opened to create them.
    const creates = (flags & 0o100) !== 0
    if (!creates) return DIRECTORY_FD
    const name = basename(path)
    let file = this.#names.get(name)
    if (file === undefined) {
      file = new DiskFile()
      this.#names.set(name, file)
      this.#pendingNames.push({ sequence: ++this.#sequence, name, file })
      this.onEvent()
    }
    this.#descriptors.set(++this.#lastDescriptor, file)
    return this.#lastDescriptor
  }

  closeSync(fd: number): void {
    this.#descriptors.delete(fd)
  }

  readSync(fd: number, buffer: Buffer, offset: number, length: number, position: number): number {
    const file = this.#file(fd)
    return file.content.copy(buffer, offset, position, Math.min(position + length, file.size))
  }

  writeSync(fd: number, buffer: Buffer, offset: number, length: number, position: number): number {
    const file = this.#file(fd)
    const end = position + length
    this.#reserve(file, end)
    buffer.copy(file.content, position, offset, offset + length)
    file.size = Math.max(file.size, end)
    const first = Math.floor(position / SECTOR)
    const sectors = Buffer.from(file.content.subarray(first * SECTOR, Math.ceil(end / SECTOR) * SECTOR))
    file.pending.push({ sequence: ++this.#sequence, first, sectors, size: file.size })
    this.onEvent()
    return length
  }

  ftruncateSync(fd: number, size: number): void {
    const file = this.#file(fd)
    this.#reserve(file, size)
    file.content.fill(0, size)
    file.size = size
    const first = Math.floor(size / SECTOR)
    const rest = Buffer.from(file.content.subarray(first * SECTOR, (first + 1) * SECTOR))
    const sequence = ++this.#sequence
    file.pending.push({ sequence, first: first + 1, sectors: undefined, size })
    file.pending.push({ sequence, first, sectors: rest, size })
    this.onEvent()
  }

  unlinkSync(path: string): void {
    const name = basename(path)
    if (!this.#names.delete(name)) throw new Error(`${name} is not there to be removed`)
    this.#pendingNames.push({ sequence: ++this.#sequence, name, file: undefined })
    this.onEvent()
  }

  /** Whether a descriptor is of this disk. */
  owns(fd: number): boolean {
    return fd >= DIRECTORY_FD
  }

  /** Starts to sync a file or the directory; its current state is durable when the returned function is called. */
  beginSync(fd: number): () => void {
    const until = this.#sequence
    const file = fd === DIRECTORY_FD ? undefined : this.#file(fd)
    return () => {
      if (file === undefined) this.#settleNames(until)
      else settle(file, until)
      this.onEvent()
    }
  }

  /** A disk as a power cut now could leave it. */
  image(survivors: Survivors): Disk {
    const image = new Disk()
    const names = new Map(this.#durableNames)
    for (const { name, file } of this.#pendingNames) {
      if (!survives(survivors)) continue
      if (file === undefined) names.delete(name)
      else names.set(name, file)
    }
    for (const [name, file] of names) {
      const copy = new DiskFile()
      copy.durable = Buffer.from(imageOf(file, survivors))
      copy.content = Buffer.from(copy.durable)
      copy.size = copy.durable.length
      image.#names.set(name, copy)
      image.#durableNames.set(name, copy)
    }
    return image
  }

  #file(fd: number): DiskFile {
    const file = this.#descriptors.get(fd)
    if (file === undefined) throw new Error(`descriptor ${fd} is not open`)
    return file
  }

  #reserve(file: DiskFile, size: number): void {
    const needed = Math.ceil(size / SECTOR) * SECTOR
    if (file.content.length >= needed) return
    const grown = Buffer.alloc(Math.max(needed, file.content.length * 2))
    file.content.copy(grown)
    file.content = grown
  }

  #settleNames(until: number): void {
    while ((this.#pendingNames[0]?.sequence ?? Number.POSITIVE_INFINITY) <= until) {
      const change = this.#pendingNames.shift()
      if (change?.file === undefined) this.#durableNames.delete(change?.name ?? '')
      else this.#durableNames.set(change.name, change.file)
    }
  }
}

function settle(file: DiskFile, until: number): void {
  const count = file.pending.filter(({ sequence }) => sequence <= until).length
  const settled = file.pending.splice(0, count)
  if (settled.length > 0)
    file.durable = assemble(file.durable, settled, settled.at(-1)?.size ?? 0, () => until)
}

function imageOf(file: DiskFile, survivors: Survivors): Buffer {
  const { durable, pending } = file
  if (survivors === 'none' || pending.length === 0) return durable
  const last = pending.at(-1)
  if (survivors === 'all') return assemble(durable, pending, last?.size ?? 0, () => last?.sequence ?? 0)
  const { random, unit } = survivors
  const sizes = [durable.length, ...pending.map(({ size }) => size)]
  const size = sizes[random.below(sizes.length)] ?? 0
  const sequences = [0, ...pending.map(({ sequence }) => sequence)]
  const newest = sequences.at(-1) ?? 0
  const cutoffs = new Map<number, number>()
  return assemble(durable, pending, size, (sector) => {
    const group = Math.floor((sector * SECTOR) / unit)
    const known = cutoffs.get(group)
    if (known !== undefined) return known
    const cutoff = random.oneIn(2) ? newest : (sequences[random.below(sequences.length)] ?? 0)
    cutoffs.set(group, cutoff)
    return cutoff
  })
}

/** The bytes of a file of this size, each sector with the changes up to its own cutoff. */
function assemble(
  durable: Buffer,
  changes: readonly Change[],
  size: number,
  cutoff: (sector: number) => number,
): Buffer {
  const sectors = Math.ceil(size / SECTOR)
  const bytes = Buffer.alloc(sectors * SECTOR)
  durable.copy(bytes)
  for (const { sequence, first, sectors: written } of changes) {
    const end = written === undefined ? sectors : first + written.length / SECTOR
    for (let sector = first; sector < Math.min(end, sectors); sector++) {
      if (sequence > cutoff(sector)) continue
      const at = (sector - first) * SECTOR
      if (written === undefined) bytes.fill(0, sector * SECTOR, (sector + 1) * SECTOR)
      else written.copy(bytes, sector * SECTOR, at, at + SECTOR)
    }
  }
  return bytes.subarray(0, size)
}

function survives(survivors: Survivors): boolean {
  if (survivors === 'none') return false
  return survivors === 'all' || survivors.random.oneIn(2)
}
