/** Whether a write cache keeps its promises on what a power cut left. */
import type { Engine } from '../../../agents/target/filesystem/engine.ts'
import type { CutEngines } from './cut-engines.ts'
import { look, place, type Seen } from './cut-look.ts'
import type { Certain, CutModel } from './cut-model.ts'
import { type Image, immediate } from './cut-storage.ts'
import type { Disk } from './disk.ts'
import type { Random } from './random.ts'

/** What a power cut leaves, and what is certain of it. */
export interface Cut extends Image {
  readonly certain: Certain
}

/** Opens an image and compares it with the model; continues from some of them. Returns what is wrong. */
export async function judge(
  { disk, batches, certain }: Cut,
  model: CutModel,
  engines: CutEngines,
  random: Random,
): Promise<string | undefined> {
  const commits = [...batches]
  const own = immediate(disk, async (batch) => void commits.push(structuredClone(batch)))
  let opened: Engine
  try {
    opened = engines.open({ disk, batches }, own)
  } catch (error) {
    return `the write cache cannot be opened: ${error instanceof Error ? error.stack : String(error)}`
  }
  try {
    const seen = await look(opened)
    const wrong = model.judge(certain, seen.lines, seen.files)
    if (wrong !== undefined || !random.oneIn(8)) return wrong
    return await emptied(opened, disk, seen, random)
  } catch (error) {
    return `the write cache cannot be read: ${error instanceof Error ? error.stack : String(error)}`
  } finally {
    opened.abandon()
  }
}

/** Continues from an image: files can be written, and after all are removed no space is used and nothing is left. */
async function emptied(
  opened: Engine,
  on: Disk,
  { files, paths }: Seen,
  random: Random,
): Promise<string | undefined> {
  for (const { path, ino } of files) {
    const at = random.below(20_000)
    const data = Buffer.alloc(1 + random.below(9000), 7)
    await opened.write(ino, data, data.length, at)
    const back = Buffer.alloc(data.length)
    if ((await opened.read(ino, back, back.length, at)) !== back.length || !back.equals(data)) {
      return `${path} cannot be written after the cut`
    }
  }
  for (const path of paths) {
    const [parent, name] = await place(opened, path)
    opened.unlink(parent, name)
  }
  await opened.flush()
  const { changedBytes } = opened.statistics()
  if (changedBytes !== 0) return `${changedBytes} bytes are taken when every file is gone`
  const left = on.readdirSync()
  return left.length > 0 ? `local files are left when every file is gone: ${left}` : undefined
}
