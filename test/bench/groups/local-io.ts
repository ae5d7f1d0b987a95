/**
 * Measures system calls on what a session has locally, beside the same calls on a directory of the same disk. Half of the
 * file was fetched from the backup, half was written since.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import path from 'node:path'
import { makeScratch, startMount } from '../../filesystem/support/mounted.ts'
import type { Figure } from '../figure.ts'
import { type FioJob, fio } from '../fio.ts'
import { syncFile, warm } from '../machine.ts'
import type { Scope } from '../scope.ts'
import { inTurns } from '../turns.ts'
import type { Workshop } from '../workshop.ts'

const OWNER = { uid: 0, gid: 0 }

interface Measure extends Pick<FioJob, 'rw' | 'clients' | 'direct'> {
  readonly name: string
  readonly limit?: number
}

const MEASURES: readonly Measure[] = [
  { name: 'direct 8 KiB reads, 1 client', rw: 'randread', clients: 1, direct: true, limit: 15_000 },
  { name: 'direct 8 KiB reads, 4 clients', rw: 'randread', clients: 4, direct: true, limit: 70_000 },
  { name: 'buffered 8 KiB writes, in order', rw: 'write', clients: 1, limit: 60_000 },
  { name: 'buffered 8 KiB writes, random', rw: 'randwrite', clients: 1, limit: 60_000 },
]

export async function localIo(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const { fileBytes, fioSeconds, turns } = workshop.amounts
  const scratch = await makeScratch(OWNER)
  scope.defer(scratch.directory, () => scratch.remove())
  const plain = await mkdtemp('/var/tmp/howdah-bench-plain-')
  scope.defer(plain, () => rm(plain, { recursive: true, force: true }))
  const base = scratch.base
  await lay(path.join(base, 'file'), fileBytes)
  await startMount(scratch, base, OWNER, {
    fetched: { directory: path.join(scratch.directory, 'fetched'), budgetBytes: 4 * fileBytes },
    backup: { repository: 'bench', instance: 'bench', label: 'bench' },
  })
  const files = [path.join(scratch.data, 'file'), path.join(plain, 'file')] as const
  await lay(files[1], fileBytes)
  await warm(files[0])
  await lay(files[0], fileBytes / 2)

  const figures: Figure[] = []
  for (const { name, limit, ...job } of MEASURES) {
    const { howdah, instead } = await inTurns(
      { workshop, scope, what: name, count: turns },
      files,
      async (file, turn) => {
        const common = {
          file,
          blockSize: '8k',
          size: fileBytes,
          seconds: fioSeconds,
          seed: turn + 1,
        } as const
        const { rate } = await fio({ ...job, ...common })
        // What one side left dirty must not be written while the other is measured.
        await syncFile(file)
        return rate
      },
    )
    figures.push({
      name,
      unit: '/s',
      better: 'more',
      howdah,
      instead: { what: 'a local directory', values: instead },
      ...(limit !== undefined && { target: { of: 'value', limit } }),
    })
  }
  workshop.note(
    'direct reads of a local directory are the disk; Howdah answers them from its write cache, which is in the page cache here',
  )
  return figures
}

/** Writes the first bytes of a file and syncs them. */
async function lay(file: string, bytes: number): Promise<void> {
  await fio({ file, rw: 'write', blockSize: '1m', clients: 1, size: bytes, bytes })
  await syncFile(file)
}
