/** The steps of the power cut test and how they are drawn: operations of the engine, and progress of its disk. */
import fc from 'fast-check'
import type { Operation } from './operations.ts'

const BLOCK = 8192
/** Bytes of the backup's files. */
export const CUT_FILES: Readonly<Record<string, number>> = {
  'data/a': 12 * BLOCK + 100,
  'data/b': 3 * BLOCK,
  'data/s/g': 2 * BLOCK - 7,
}
const FILES = [...Object.keys(CUT_FILES), 'data/n0', 'data/n1', 'data/s/n2', 'data/t/n3']
const DIRECTORIES = ['data/t', 'data/s', 'data/s/u', 'data/t/v']
const MAX = 16 * BLOCK

const file = fc.constantFrom(...FILES)
const directory = fc.constantFrom(...DIRECTORIES)
const position = fc.oneof(
  fc.integer({ min: 0, max: 15 }).map((block) => block * BLOCK),
  fc.integer({ min: 0, max: MAX - 1 }),
)
const length = fc.oneof(
  fc.integer({ min: 1, max: 3 }).map((blocks) => blocks * BLOCK),
  fc.integer({ min: 1, max: 2 * BLOCK }),
)

function step(op: string, fields: Record<string, fc.Arbitrary<unknown>> = {}): fc.Arbitrary<Operation> {
  return fc.record({ op: fc.constant(op), ...fields }) as fc.Arbitrary<Operation>
}

const STEPS: readonly (readonly [number, fc.Arbitrary<Operation>])[] = [
  [30, step('write', { file, at: position, length, fill: fc.integer({ min: 1, max: 250 }) })],
  [10, step('resize', { file, size: position })],
  [
    4,
    step('allocate', {
      file,
      how: fc.constantFrom('allocate', 'punch-hole', 'zero-range'),
      at: position,
      length,
    }),
  ],
  [16, step('read', { file, at: position, length })],
  [10, step('read-aside', { file, at: position, length })],
  [8, step('make', { file })],
  [3, step('mkdir', { directory })],
  [2, step('rmdir', { directory })],
  [6, step('unlink', { file })],
  [7, step('rename', { file, to: file, how: fc.constantFrom('replace', 'noreplace', 'exchange') })],
  [2, step('rename', { file: directory, to: directory, how: fc.constantFrom('replace', 'exchange') })],
  [3, step('link', { file, to: file })],
  [2, step('symlink', { file })],
  [2, step('chmod', { file, mode: fc.constantFrom(0o600, 0o640, 0o400) })],
  [3, step('hold', { file })],
  [2, step('let-go')],
  [16, step('fsync', { file })],
  [3, step('fsyncdir')],
  [3, step('sync-changed')],
  [1, step('flush')],
  [2, step('flush-fetched')],
  [40, step('disk', { which: fc.integer({ min: 0, max: 5 }) })],
  [4, step('disk-all')],
  [2, step('crash')],
  [1, step('remount')],
]

/** Sequences of at most `longest` steps. */
export function cutSteps(longest: number): fc.Arbitrary<Operation[]> {
  const one = fc.oneof(...STEPS.map(([weight, arbitrary]) => ({ weight, arbitrary })))
  return fc.array(one, { minLength: 1, maxLength: longest, size: 'max' })
}
