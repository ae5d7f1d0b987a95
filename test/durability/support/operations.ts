/**
 * The system calls that the model test makes, and how they are drawn. Names come from a small fixed set and open files
 * from four slots, so most calls meet what earlier ones made, and a sequence stays meaningful when calls are left out
 * of it, which is how it shrinks.
 */
import fc from 'fast-check'

/** One system call, or an action on the mount; posix-worker.py makes the calls. */
export type Operation = { readonly op: string } & Readonly<
  Record<string, string | number | boolean | readonly string[]>
>

/** Optional capabilities of a driver. */
export interface Abilities {
  /** renameat2(2) with flags. */
  readonly renameModes: boolean
  readonly fallocate: boolean
  /** Two names of one file are one file to the page cache. */
  readonly links: boolean
  /** utimensat(2) sets both times, to the nanosecond; attributes of open files know no other names. */
  readonly exactTimes: boolean
}

/** Bytes of the files that every case begins with, by path. */
export const BASE_FILES: Readonly<Record<string, number>> = {
  f0: 33 * 8192 + 100,
  f1: 8192,
  f2: 3 * 8192 - 1,
  f3: 0,
  f4: 17,
  'sub/g0': 5 * 8192 + 1,
  'sub/g1': 4096,
  'sub/deep/h': 2 * 8192,
}

const FILE_NAMES = [...Object.keys(BASE_FILES), 'n0', 'n1', 'sub/n2', 'd0/n3', 'd0/d1/n4']
const DIRECTORY_NAMES = ['d0', 'd0/d1', 'sub', 'sub/deep', 'sub/d2', '.']
const ODD_NAMES = ['l0', 'sub/l1', 'nowhere/x', 'ü €', 'f1/below', 'long-'.repeat(52)]

const BLOCK = 8192
const PAGE = 4096

const slot = fc.integer({ min: 0, max: 3 })
const path = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...FILE_NAMES) },
  { weight: 2, arbitrary: fc.constantFrom(...DIRECTORY_NAMES) },
  { weight: 1, arbitrary: fc.constantFrom(...ODD_NAMES) },
)
const filePath = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...FILE_NAMES) }, path)
const directoryPath = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...DIRECTORY_NAMES) }, path)

/** Positions and sizes: small ones, edges of pages and blocks with one byte more or less, and large ones. */
const edge = fc
  .tuple(fc.constantFrom(PAGE, BLOCK), fc.integer({ min: 0, max: 40 }), fc.integer({ min: -1, max: 1 }))
  .map(([unit, count, by]) => Math.max(0, unit * count + by))
const position = fc.oneof(
  { weight: 4, arbitrary: edge },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 40 * BLOCK }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 3 * 1024 * 1024 }) },
)
const length = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 3 * BLOCK }) },
  { weight: 4, arbitrary: fc.constantFrom(PAGE, BLOCK, 2 * BLOCK, 16 * BLOCK) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 1_400_000 }) },
)
const fill = fc.integer({ min: 0, max: 250 })
const fileMode = fc.constantFrom(0o600, 0o644, 0o640, 0o755, 0o400, 0)
const directoryMode = fc.constantFrom(0o700, 0o755, 0o750, 0o2770, 0o1777)
/** Nanoseconds since the epoch, before 2020 and exact in a number: such a time was set, and is compared. */
const time = fc.integer({ min: 1, max: 9_000 }).map((count) => count * 1_000_000_000_123)

const flags = fc.constantFrom(
  ['rdwr'],
  ['rdwr', 'creat'],
  ['rdwr', 'creat', 'excl'],
  ['rdwr', 'trunc'],
  ['rdwr', 'creat', 'trunc'],
  ['rdwr', 'creat', 'append'],
  ['wronly', 'creat'],
  ['wronly', 'append'],
  ['wronly', 'creat', 'trunc', 'append'],
  ['rdonly'],
  ['rdonly', 'nofollow'],
  ['rdonly', 'directory'],
  ['rdwr', 'sync'],
)

function operation(name: string, fields: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<Operation> {
  return fc.record({ op: fc.constant(name), ...fields }) as fc.Arbitrary<Operation>
}

/** Sequences of at most `longest` operations. */
export function operations(longest: number, able: Abilities): fc.Arbitrary<Operation[]> {
  const how = able.renameModes ? fc.constantFrom('replace', 'noreplace', 'exchange') : fc.constant('replace')
  const room = fc.constantFrom('allocate', 'allocate-keep', 'punch-hole', 'zero-range', 'zero-range-keep')
  const weighted: (readonly [number, fc.Arbitrary<Operation>])[] = [
    [12, operation('open', { slot, path: filePath, flags, mode: fileMode })],
    [3, operation('close', { slot })],
    [14, operation('pwrite', { slot, at: position, length, fill })],
    [5, operation('append', { slot, length, fill })],
    [10, operation('pread', { slot, at: position, length })],
    [4, operation('ftruncate', { slot, size: position })],
    [3, operation('truncate', { path: filePath, size: position })],
    [3, operation('map', { slot, at: position, length, fill, flush: fc.boolean() })],
    [2, operation('copy-range', { slot, to: slot, from: position, at: position, length })],
    [3, operation('holes', { slot, at: position })],
    [4, operation('fsync', { slot, data: fc.boolean() })],
    [3, operation('fstat', { slot })],
    [3, operation('stat', { path })],
    [2, operation('lstat', { path })],
    [2, operation('list', { path: directoryPath })],
    [4, operation('mkdir', { path: directoryPath, mode: directoryMode })],
    [3, operation('rmdir', { path: directoryPath })],
    [5, operation('unlink', { path: filePath })],
    [3, operation('symlink', { path, target: path })],
    [1, operation('readlink', { path })],
    [7, operation('rename', { path: filePath, to: filePath, how })],
    [3, operation('rename', { path: directoryPath, to: directoryPath, how })],
    [1, operation('fifo', { path, mode: fileMode })],
    [3, operation('chmod', { path, mode: fileMode })],
    [1, operation('chmod', { path: directoryPath, mode: directoryMode })],
    [1, operation('fchmod', { slot, mode: fileMode })],
    [3, operation('times', { path, atime: time, mtime: time, now: fc.boolean() })],
    [2, operation('check', {})],
    [0.4, fc.constantFrom({ op: 'remount' }, { op: 'remount' }, { op: 'crash' })],
  ]
  if (able.links) weighted.push([4, operation('link', { path: filePath, to: filePath })])
  if (able.fallocate) weighted.push([5, operation('fallocate', { slot, how: room, at: position, length })])
  const one = fc.oneof(...weighted.map(([weight, arbitrary]) => ({ weight: weight * 20, arbitrary })))
  return fc.array(one, { minLength: 1, maxLength: longest, size: 'max' })
}
