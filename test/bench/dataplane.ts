/**
 * Measures the data plane on loopback, server in a process of its own: random 8 KiB reads, sequential 1 MiB reads,
 * and a tree of 100,000 entries. `node test/bench/dataplane.ts [--json]`
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { connectDataPlane, type DataPlaneClient } from '../../agents/dataplane/client.ts'
import { createDataPlaneServer } from '../../agents/dataplane/server.ts'
import { signTicket } from '../../agents/dataplane/ticket.ts'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/cli/certificates.ts'
import { createMemorySource, makeTree } from '../dataplane/memory-source.ts'

const SECONDS = 3
const FILE_BYTES = 1024 ** 3
const logger = pino({ level: 'silent' })
const ticketKey = Buffer.alloc(32, 1)

async function readPems({ ca, cert, key }: CertificatePaths) {
  return { ca: await readFile(ca), cert: await readFile(cert), key: await readFile(key) }
}

async function serve(paths: CertificatePaths): Promise<void> {
  const data = Buffer.alloc(8 * 1024 * 1024, 'howdah')
  const source = createMemorySource({ entries: makeTree(100_000) })
  const server = await createDataPlaneServer({
    host: '127.0.0.1',
    port: 0,
    tls: await readPems(paths),
    ticketKey,
    logger,
    openBackup: async () => ({
      ...source,
      read: async (_file, offset, length) => {
        const at = offset % (4 * 1024 * 1024)
        return data.subarray(at, at + length)
      },
    }),
  })
  process.send?.(server.address.port)
  process.on('disconnect', () => process.exit())
}

/** Reads with `depth` in flight until the time is over; gives the reads per second and the client's CPU time, µs, for each. */
async function measure(depth: number, read: (turn: number) => Promise<unknown>) {
  let turn = 0
  const cpu = process.cpuUsage()
  const begin = performance.now()
  const end = begin + SECONDS * 1000
  await Promise.all(
    Array.from({ length: depth }, async () => {
      while (performance.now() < end) await read(turn++)
    }),
  )
  const { user, system } = process.cpuUsage(cpu)
  return { rate: (turn * 1000) / (performance.now() - begin), cpu: (user + system) / turn }
}

async function run(client: DataPlaneClient): Promise<Record<string, number>> {
  await client.read(1, 0, 8192)
  const random = () => Math.floor((Math.random() * FILE_BYTES) / 8192) * 8192
  const results: Record<string, number> = {}
  for (const depth of [1, 4, 16, 64]) {
    const { rate, cpu } = await measure(depth, () => client.read(1, random(), 8192))
    results[`random 8 KiB reads/s, ${depth} in flight`] = Math.round(rate)
    results[`random 8 KiB reads, CPU of the client, µs each, ${depth} in flight`] = Math.round(cpu)
  }
  for (const depth of [1, 4, 8]) {
    const { rate, cpu } = await measure(depth, (turn) => client.read(1, turn * 1024 ** 2, 1024 ** 2))
    results[`sequential 1 MiB reads, MB/s, ${depth} in flight`] = Math.round((rate * 1024 ** 2) / 1e6)
    results[`sequential 1 MiB reads, CPU of the client, µs each, ${depth} in flight`] = Math.round(cpu)
  }
  for (const which of ['first', 'second']) {
    const begin = performance.now()
    let entries = 0
    for await (const batch of client.tree()) entries += batch.length
    results[`tree of ${entries} entries, ms, ${which}`] = Math.round(performance.now() - begin)
  }
  return results
}

async function main(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'howdah-bench-'))
  try {
    const [mount, target] = await ensureCertificates(directory, {
      agents: [
        { kind: 'mount', name: 'bench', addresses: ['127.0.0.1'] },
        { kind: 'target', name: 'bench', addresses: [] },
      ],
    })
    if (mount === undefined || target === undefined) throw new Error('no certificates')
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(mount)])
    try {
      const [port] = (await once(child, 'message')) as [number]
      const ticket = {
        session: 'bench',
        repository: 'bench',
        instance: 'bench',
        backup: 'bench',
        target: 'bench',
        issuedAt: new Date().toISOString(),
      }
      const client = connectDataPlane({
        host: '127.0.0.1',
        port,
        ticket: signTicket(ticket, ticketKey),
        tls: await readPems(target),
        serverName: 'bench',
        logger,
      })
      const results = await run(client)
      await client.close()
      if (process.argv.includes('--json')) console.log(JSON.stringify(results))
      else for (const [what, value] of Object.entries(results)) console.log(`${what.padEnd(70)} ${value}`)
    } finally {
      child.kill()
    }
  } finally {
    await rm(directory, { recursive: true })
  }
}

const [argument] = process.argv.slice(2)
if (process.send !== undefined && argument !== undefined) await serve(JSON.parse(argument))
else await main()
