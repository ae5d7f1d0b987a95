/**
 * Measures reading what the target has not cached, over loopback: Howdah's data plane, by its client and through a mount,
 * beside sshfs on the same files. The server's side has the file in memory, so that the disk is not compared; the
 * reader's side has nothing.
 */
import path from 'node:path'
import type { DataPlaneClient } from '../../../agents/dataplane/client/client.ts'
import { serveBackup } from '../data-plane.ts'
import type { Figure, Target } from '../figure.ts'
import { type FioJob, fio } from '../fio.ts'
import { dropCaches, warm } from '../machine.ts'
import type { Scope } from '../scope.ts'
import { startSshServer, unmount } from '../sshfs.ts'
import { inTurns, type Turns } from '../turns.ts'
import type { StockedProduction, Workshop } from '../workshop.ts'

const BLOCK = 8192
const CHUNK = 1024 ** 2
/** Sequential reads that the data plane's client has in flight. */
const AHEAD = 8

interface Way {
  readonly pattern: 'random' | 'sequential'
  readonly readers: number
}

const WAYS: readonly Way[] = [
  { pattern: 'random', readers: 1 },
  { pattern: 'random', readers: 16 },
  { pattern: 'sequential', readers: 1 },
  { pattern: 'sequential', readers: 16 },
]

export async function coldReads(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const { amounts } = workshop
  const production = await workshop.production(amounts.small)
  const { path: repository, instance, data } = await production.plainBackup()
  const relative = await largestFile(production)
  const source = path.join(data, relative)
  const bytes = Math.min(amounts.fileBytes, 1024 ** 3)
  const plane = await serveBackup(
    scope,
    { format: 'basebackup', path: repository },
    { instance, backup: instance },
  )
  const ssh = await startSshServer(scope)
  const sshMount = path.join(repository, 'sshfs')
  scope.defer(sshMount, () => unmount(sshMount))

  async function forget(): Promise<void> {
    await dropCaches()
    await warm(source)
  }

  /** With nothing cached, neither by the kernel nor in a write cache. */
  async function overSshfs(way: Way, turn: number): Promise<number> {
    await ssh.mount(data, sshMount)
    try {
      await forget()
      return measure(await fio(job(way, path.join(sshMount, relative), turn)), way)
    } finally {
      await unmount(sshMount)
    }
  }

  async function throughMount(way: Way, turn: number): Promise<number> {
    const mountScope = scope.inner()
    try {
      const mount = await plane.mount(mountScope)
      await forget()
      return measure(await fio(job(way, path.join(mount.data, relative), turn)), way)
    } finally {
      await mountScope.close()
    }
  }

  async function byClient({ pattern, readers }: Way): Promise<number> {
    const client = plane.connect()
    try {
      const file = await fileNumber(client, `data/${relative}`)
      await forget()
      if (pattern === 'sequential') {
        const seconds = await readAll(readers * AHEAD, bytes / CHUNK, (turn) =>
          client.read(file, turn * CHUNK, CHUNK),
        )
        return bytes / 1e6 / seconds
      }
      const random = () => Math.floor((Math.random() * bytes) / BLOCK) * BLOCK
      const seconds = await readAll(readers, amounts.coldReads, () => client.read(file, random(), BLOCK))
      return amounts.coldReads / seconds
    } finally {
      await client.close()
    }
  }

  const job = ({ pattern, readers }: Way, file: string, turn: number): FioJob =>
    pattern === 'random'
      ? {
          ...{ file, rw: 'randread', blockSize: '8k', clients: readers, size: bytes, seed: turn + 1 },
          bytes: amounts.coldReads * BLOCK,
        }
      : { file, rw: 'read', blockSize: '1m', clients: readers, size: bytes, apart: true }

  const figures: Figure[] = []
  for (const way of WAYS) {
    const what = `cold ${way.pattern} reads, ${way.readers} at a time`
    const target: Target = { of: 'ratio', limit: way.pattern === 'random' ? 3 : 2 }
    const options = { workshop, scope, what, count: amounts.turns }
    const client: number[] = []
    const mounted = await inTurns(options, [throughMount, overSshfs], async (one, turn) => {
      if (one === throughMount) client.push(await byClient(way))
      return one(way, turn)
    })
    figures.push(
      figure(`${what}, through the mount`, way, mounted, target),
      figure(`${what}, data plane alone`, way, { howdah: client, instead: mounted.instead }, target),
    )
  }
  workshop.note(
    'cold reads: what is read is in the memory of the serving side, and nowhere on the reading side',
  )
  return figures
}

const measure = ({ rate, bandwidth }: { rate: number; bandwidth: number }, { pattern }: Way): number =>
  pattern === 'random' ? rate : bandwidth / 1e6

const figure = (name: string, { pattern }: Way, values: Turns, target: Target): Figure => ({
  name,
  unit: pattern === 'random' ? '/s' : 'MB/s',
  better: 'more',
  howdah: values.howdah,
  instead: { what: 'sshfs', values: values.instead },
  target,
})

/** Below the data directory. */
async function largestFile(production: StockedProduction): Promise<string> {
  await production.start()
  try {
    return await production.sql(`SELECT pg_relation_filepath('pgbench_accounts')`)
  } finally {
    await production.stop()
  }
}

async function fileNumber(client: DataPlaneClient, wanted: string): Promise<number> {
  for await (const batch of client.tree()) {
    for (const { path: name, file } of batch) if (name === wanted && file !== undefined) return file
  }
  throw new Error(`the backup has no ${wanted}`)
}

/** Seconds that `count` reads took with `depth` in flight. */
async function readAll(
  depth: number,
  count: number,
  read: (turn: number) => Promise<unknown>,
): Promise<number> {
  let next = 0
  const started = performance.now()
  await Promise.all(
    Array.from({ length: depth }, async () => {
      while (next < count) await read(next++)
    }),
  )
  return (performance.now() - started) / 1000
}
