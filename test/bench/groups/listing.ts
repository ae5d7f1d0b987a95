/**
 * Measures `howdah backups` on a repository of 1,000 backups and a million WAL segments: the first time, from disk, and
 * again, and the mount agent's part of both.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { makeLargeArchive } from '../../repository/large-archive.ts'
import { startFleet } from '../../support/fleet.ts'
import type { Figure } from '../figure.ts'
import { dropCaches, residentMib } from '../machine.ts'
import type { Scope } from '../scope.ts'
import type { Workshop } from '../workshop.ts'

const BACKUPS = 1_000
const SEGMENTS = 1_000_000
const QUICK_SEGMENTS = 50_000

export async function listing(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const segments = workshop.amounts.quick ? QUICK_SEGMENTS : SEGMENTS
  const directory = await mkdtemp(path.join(tmpdir(), 'howdah-bench-'))
  scope.defer(directory, () => rm(directory, { recursive: true, force: true }))
  const repository = path.join(directory, 'repository')
  workshop.say(`  making a repository of ${segments} WAL segments …`)
  makeLargeArchive(repository, BACKUPS, segments)

  const first: number[] = []
  const again: number[] = []
  const agent: number[] = []
  const memory: number[] = []
  for (let turn = 0; turn < workshop.amounts.turns; turn++) {
    scope.check()
    workshop.say(`  listing it, ${turn + 1} of ${workshop.amounts.turns} …`)
    const inner = scope.inner()
    try {
      const fleet = await startFleet({
        repositories: [{ name: 'main', format: 'pgbackrest', path: repository }],
      })
      inner.defer('the agents', () => fleet.remove())
      const list = async () => {
        const { status, stdout, stderr } = await fleet.howdah('backups')
        const shown = stdout.split('\n').filter((line) => /\bfull\b/.test(line)).length
        if (status !== 0 || shown !== BACKUPS) throw new Error(`it shows ${shown} backups: ${stderr}`)
      }
      await dropCaches()
      first.push(await seconds(list))
      again.push(await seconds(list))
      agent.push(
        await seconds(() =>
          fleet.bus.requestAgent({ kind: 'mount', name: 'backup-1' }, 'repository.list', {}),
        ),
      )
      memory.push(residentMib(fleet.pid('mount-agent')))
    } finally {
      await inner.close()
    }
  }
  const what = `1,000 backups and ${segments.toLocaleString('en-US')} WAL segments`
  return [
    { name: `listing ${what}`, unit: 's', better: 'less', howdah: first },
    {
      ...{ name: 'listing them again', unit: 's', better: 'less', howdah: again },
      target: { of: 'value', limit: 2 },
    },
    { name: 'the mount agent’s part of that', unit: 's', better: 'less', howdah: agent },
    { name: 'mount agent after that', unit: 'MiB', better: 'less', howdah: memory },
  ]
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return (performance.now() - started) / 1000
}
