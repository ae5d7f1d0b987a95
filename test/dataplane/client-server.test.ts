/** Client and server over real TLS sockets: reads, reconnects, deadlines, cancellation, trees. */
import { expect } from 'chai'
import type { DamagedBlockListener, TreeEntry } from '../../agents/dataplane/backup-source.ts'
import { HowdahError } from '../../messages/errors.ts'
import { expectFailure, ticket, until, useDataPlane } from './fixture.ts'
import { createMemorySource, expectedBytes, FILE_BYTES, makeTree, STORED, WAL_NAME } from './memory-source.ts'

async function collect(tree: AsyncIterable<readonly TreeEntry[]>): Promise<TreeEntry[]> {
  const entries: TreeEntry[] = []
  for await (const batch of tree) entries.push(...batch)
  return entries
}

function gate(): { readonly opened: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { opened: promise, open: resolve }
}

describe('the data plane', function () {
  this.timeout(30_000)
  const plane = useDataPlane()

  it('reads ranges of files, short only at their end', async () => {
    const client = plane.connect(await plane.serve(createMemorySource()))
    expect((await client.read(3, 8192, 8192)).equals(expectedBytes(3, 8192, 8192))).to.equal(true)
    expect((await client.read(3, FILE_BYTES - 100, 8192)).length).to.equal(100)
    expect((await client.read(3, FILE_BYTES, 8192)).length).to.equal(0)
    expect(client.connected).to.equal(true)
    expect(client.lastError).to.equal(undefined)
  })

  it('reports a damaged block before its bytes arrive, to all clients that have the backup open, until they close', async () => {
    const listeners = new Set<DamagedBlockListener>()
    const source = {
      ...createMemorySource({
        beforeRead(file, offset) {
          if (offset === 8192) for (const listener of listeners) listener(file, 1)
        },
      }),
      onDamagedBlock(listener: DamagedBlockListener) {
        listeners.add(listener)
        return () => void listeners.delete(listener)
      },
    }
    const address = await plane.serve(source)
    const clients = [1, 2].map(() => plane.connect(address, { connections: 1 }))
    const reported: unknown[] = []
    for (const [index, client] of clients.entries()) {
      client.onDamagedBlock?.((file, block) => reported.push([index, file, block]))
      await client.read(3, 0, 8192)
    }
    await clients[0]?.read(3, 8192, 8192)
    expect(reported).to.deep.include([0, 3, 1])
    await until(() => reported.length === 2)
    expect(reported).to.deep.include([1, 3, 1])
    await clients[1]?.close()
    await until(() => listeners.size === 1)
  })

  it('reads more than one frame holds', async () => {
    const client = plane.connect(await plane.serve(createMemorySource()))
    const bytes = await client.read(1, 5, FILE_BYTES)
    expect(bytes.equals(expectedBytes(1, 5, FILE_BYTES))).to.equal(true)
  })

  it('knows which WAL files there are, and reads them', async () => {
    const client = plane.connect(await plane.serve(createMemorySource()))
    expect(await client.walSize(WAL_NAME)).to.equal(FILE_BYTES)
    expect(await client.walSize('0000000100000000000000FF')).to.equal(undefined)
    expect(await client.walSize('../../etc/passwd')).to.equal(undefined)
    expect((await client.walRead(WAL_NAME, 10, 100)).equals(expectedBytes(7, 10, 100))).to.equal(true)
    await expectFailure(client.walRead('0000000100000000000000FF', 0, 10), 'wal_missing')
    expect(await client.walStored(WAL_NAME)).to.deep.equal(STORED)
    expect(await client.walStored('0000000100000000000000FF')).to.equal(undefined)
    expect((await client.walReadStored(WAL_NAME, 10, 100)).equals(expectedBytes(8, 10, 100))).to.equal(true)
    await expectFailure(client.walReadStored('../../etc/passwd', 0, 10), 'wal_missing')
  })

  it('answers out of order: a slow read does not delay those behind it', async () => {
    const slow = gate()
    const source = createMemorySource({ beforeRead: (file) => (file === 1 ? slow.opened : undefined) })
    const client = plane.connect(await plane.serve(source), { connections: 1 })
    let slowDone = false
    const first = client.read(1, 0, 8192).then(() => {
      slowDone = true
    })
    const others = await Promise.all(Array.from({ length: 50 }, (_, n) => client.read(2, n * 8192, 8192)))
    expect(slowDone).to.equal(false)
    others.forEach((bytes, n) => {
      expect(bytes.equals(expectedBytes(2, n * 8192, 8192))).to.equal(true)
    })
    slow.open()
    await first
  })

  it('gives each of many concurrent reads its own bytes', async () => {
    const source = createMemorySource({
      beforeRead: () => new Promise((resolve) => setTimeout(resolve, Math.random() * 5)),
    })
    const client = plane.connect(await plane.serve(source, { limits: { requests: 20 } }), { connections: 3 })
    await Promise.all(
      Array.from({ length: 1000 }, async (_, n) => {
        const [file, offset, length] = [n % 17, (n * 7919) % 1_000_000, 1 + ((n * 131) % 20_000)]
        const bytes = await client.read(file, offset, length)
        expect(bytes.equals(expectedBytes(file, offset, length))).to.equal(true)
      }),
    )
  })

  it('completes reads across a restart of the server', async () => {
    const source = createMemorySource({ beforeRead: () => new Promise((resolve) => setTimeout(resolve, 5)) })
    const first = await plane.serve(source)
    const client = plane.connect(first)
    await client.read(1, 0, 1)
    let done = 0
    const reads = Promise.all(
      Array.from({ length: 20 }, async (_, worker) => {
        for (let n = 0; n < 20; n++) {
          const bytes = await client.read(worker, n * 8192, 8192)
          expect(bytes.equals(expectedBytes(worker, n * 8192, 8192))).to.equal(true)
          done += 1
        }
      }),
    )
    await until(() => done >= 40)
    await first.close()
    expect(done).to.be.lessThan(400)
    await until(() => !client.connected)
    expect(client.lastError).to.be.a('string')
    await plane.serve(source, { port: first.address.port })
    await reads
    expect(done).to.equal(400)
  })

  it('lets reads wait for a server that comes up later', async () => {
    const gone = await plane.serve(createMemorySource())
    await gone.close()
    const client = plane.connect(gone)
    const read = client.read(1, 0, 8192)
    await until(() => client.lastError !== undefined)
    await plane.serve(createMemorySource(), { port: gone.address.port })
    expect((await read).length).to.equal(8192)
  })

  it('fails a read at its deadline with repository_unavailable', async () => {
    const gone = await plane.serve(createMemorySource())
    await gone.close()
    const client = plane.connect(gone, { deadlineMs: 200 })
    const error = await expectFailure(client.read(1, 0, 8192), 'repository_unavailable')
    expect(error.message).to.contain(`127.0.0.1:${gone.address.port}`)
  })

  it('fails a read that the server never answers, and serves the next one', async () => {
    const source = createMemorySource({
      beforeRead: (file) => (file === 1 ? new Promise(() => {}) : undefined),
    })
    const client = plane.connect(await plane.serve(source), { deadlineMs: 300 })
    await expectFailure(client.read(1, 0, 8192), 'repository_unavailable')
    expect((await client.read(2, 0, 8192)).length).to.equal(8192)
  })

  it('retries a read while the repository behind the server is unavailable', async () => {
    let calls = 0
    const source = createMemorySource({
      beforeRead: () => {
        calls += 1
        if (calls < 4) throw new HowdahError('repository_unavailable', 'The disk is away.')
      },
    })
    const client = plane.connect(await plane.serve(source))
    expect((await client.read(1, 0, 10)).length).to.equal(10)
    expect(calls).to.equal(4)
  })

  it('names the cause when the repository stays unavailable until the deadline', async () => {
    const source = createMemorySource({
      beforeRead: () => {
        throw new HowdahError('repository_unavailable', 'The disk is away.')
      },
    })
    const client = plane.connect(await plane.serve(source), { deadlineMs: 200 })
    const error = await expectFailure(client.read(1, 0, 10), 'repository_unavailable')
    expect(error.message).to.contain('The disk is away.')
  })

  it('queues trees beyond the number that is sent at once', async () => {
    const entries = makeTree(3000)
    const server = await plane.serve(createMemorySource({ entries }), { limits: { streams: 1 } })
    const client = plane.connect(server, { connections: 1 })
    const trees = await Promise.all(Array.from({ length: 4 }, () => collect(client.tree())))
    for (const tree of trees) expect(tree).to.deep.equal(entries)
  })

  it('passes on an error about damage unchanged, and without a retry', async () => {
    const source = createMemorySource({
      beforeRead: () => {
        throw new HowdahError('backup_damaged', 'base/5/1259 of backup X has a wrong checksum.')
      },
    })
    const client = plane.connect(await plane.serve(source))
    const error = await expectFailure(client.read(1, 0, 10), 'backup_damaged')
    expect(error.message).to.equal('base/5/1259 of backup X has a wrong checksum.')
  })

  it('turns a crash in the source into an error of that request only', async () => {
    const source = createMemorySource({
      beforeRead: (file) => {
        if (file === 1) throw new TypeError('a defect')
      },
    })
    const client = plane.connect(await plane.serve(source))
    await expectFailure(client.read(1, 0, 10), 'internal')
    expect((await client.read(2, 0, 10)).length).to.equal(10)
  })

  it('cancels a read at its source when the caller gives up', async () => {
    const started = gate()
    const aborted = gate()
    const source = createMemorySource({
      beforeRead: (file, _offset, signal) => {
        if (file !== 1) return
        signal?.addEventListener('abort', () => aborted.open())
        started.open()
        return new Promise(() => {})
      },
    })
    const client = plane.connect(await plane.serve(source))
    const controller = new AbortController()
    const outcome = client.read(1, 0, 10, controller.signal).catch((error: unknown) => error)
    await started.opened
    const reason = new Error('no longer wanted')
    controller.abort(reason)
    expect(await outcome).to.equal(reason)
    await aborted.opened
    expect((await client.read(2, 0, 10)).length).to.equal(10)
  })

  it('streams a tree of 100,000 entries unchanged', async () => {
    const entries = makeTree(100_000)
    const client = plane.connect(await plane.serve(createMemorySource({ entries })))
    expect(await collect(client.tree())).to.deep.equal(entries)
  })

  it('resumes a tree where a restart of the server interrupted it', async () => {
    const entries = makeTree(30_000)
    const first = await plane.serve(createMemorySource({ entries }))
    const client = plane.connect(first)
    const seen: TreeEntry[] = []
    for await (const batch of client.tree()) {
      const before = seen.length
      seen.push(...batch)
      if (before === 0) {
        await first.close()
        await plane.serve(createMemorySource({ entries }), { port: first.address.port })
      }
    }
    expect(seen).to.deep.equal(entries)
  })

  it('sends no more of a tree than its reader consumes', async () => {
    const entries = makeTree(100_000)
    let produced = 0
    const source = createMemorySource()
    const client = plane.connect(
      await plane.serve({
        ...source,
        async *tree() {
          for (let at = 0; at < entries.length; at += 500) {
            produced += 500
            yield entries.slice(at, at + 500)
          }
        },
      }),
    )
    const iterator = client.tree()[Symbol.asyncIterator]()
    await iterator.next()
    await client.read(1, 0, FILE_BYTES)
    const paused = produced
    expect(paused).to.be.lessThan(50_000)
    await iterator.return?.()
    expect((await client.read(1, 0, 10)).length).to.equal(10)
    expect(produced).to.be.lessThan(50_000)
  })

  it('reports a tree that ends early', async () => {
    const entries = makeTree(2000)
    const source = {
      ...createMemorySource(),
      async *tree() {
        yield entries
        throw new HowdahError('backup_damaged', 'The manifest of backup X ends early.')
      },
    }
    const client = plane.connect(await plane.serve(source))
    await expectFailure(collect(client.tree()), 'backup_damaged')
  })

  it('opens a backup once for all connections and closes it when none uses it', async () => {
    const sources: ReturnType<typeof createMemorySource>[] = []
    const server = await plane.serve(
      async (asked) => {
        expect(asked).to.deep.equal(ticket)
        const source = createMemorySource()
        sources.push(source)
        return source
      },
      { limits: { unusedMs: 20 } },
    )
    const clients = [plane.connect(server), plane.connect(server)]
    await Promise.all(clients.map((client) => client.read(1, 0, 10)))
    expect(sources.length).to.equal(1)
    expect(sources[0]?.closed).to.equal(false)
    await Promise.all(clients.map((client) => client.close()))
    await until(() => sources[0]?.closed === true)
    expect((await plane.connect(server).read(1, 0, 10)).length).to.equal(10)
    expect(sources.length).to.equal(2)
  })

  it('detects a cut cable, and repeats the read over a new connection', async () => {
    const server = await plane.serve(createMemorySource())
    const cable = await plane.cable(server)
    const client = plane.connect(cable, { connections: 1, pingMs: 50 })
    await client.read(1, 0, 10)
    cable.cut()
    const read = client.read(2, 0, 10)
    await until(() => !client.connected)
    cable.mend()
    expect((await read).equals(expectedBytes(2, 0, 10))).to.equal(true)
  })

  it('keeps a connection open that is idle but alive', async () => {
    const cable = await plane.cable(await plane.serve(createMemorySource()))
    const client = plane.connect(cable, { connections: 1, pingMs: 20 })
    await client.read(1, 0, 10)
    const before = cable.bytesBack
    await until(() => cable.bytesBack > before + 200)
    expect(client.connected).to.equal(true)
    expect(cable.connections).to.equal(1)
  })

  it('rejects outstanding reads when the client is closed', async () => {
    const source = createMemorySource({ beforeRead: () => new Promise(() => {}) })
    const client = plane.connect(await plane.serve(source))
    const read = expectFailure(client.read(1, 0, 10), 'repository_unavailable')
    await client.close()
    await read
    await expectFailure(client.read(1, 0, 10), 'repository_unavailable')
  })
})
