/** What both ends of the data plane tell about their requests to whoever counts them. */
import { expect } from 'chai'
import { HowdahError } from '../../messages/errors.ts'
import { poll } from '../support/poll.ts'
import { useDataPlane } from './fixture.ts'
import { createMemorySource } from './memory-source.ts'

describe('the observers of the data plane', function () {
  this.timeout(30_000)
  const plane = useDataPlane()

  function observers() {
    const seen: unknown[][] = []
    return {
      seen,
      of: (end: 'client' | 'server') => ({
        ended: (request: string, ms: number, bytes: number) => seen.push([end, request, ms >= 0, bytes]),
        answered: (request: string, ms: number, bytes: number) => seen.push([end, request, ms >= 0, bytes]),
        failed: () => seen.push([end, 'failed']),
        lost: () => seen.push([end, 'lost']),
        refused: () => seen.push([end, 'refused']),
      }),
    }
  }

  it('are notified of each request with its bytes, and of a list of ranges and of a tree when the whole of it has arrived', async () => {
    const { seen, of } = observers()
    const server = await plane.serve(createMemorySource(), { observer: of('server') })
    const client = plane.connect(server, { observer: of('client') })
    await client.read(3, 8192, 8192)
    for await (const _ of client.readMany([{ file: 3, offset: 0, length: 100_000 }]));
    for await (const _ of client.tree());
    await client.walSize('000000010000000000000001')
    const names = ['read', 'ranges', 'tree']
    for (const name of names) {
      for (const end of ['client', 'server']) {
        expect(
          seen.filter(([from, request]) => from === end && request === name),
          `${end} ${name}`,
        ).to.have.length(1)
      }
    }
    expect(seen)
      .to.deep.include(['client', 'read', true, 8192])
      .and.to.deep.include(['server', 'read', true, 8192])
    expect(seen).to.deep.include(['client', 'ranges', true, 100_000])
    expect(seen.filter(([, request]) => request === 'wal' || request === 'walSize')).to.have.length(2)
    expect(seen.flat()).to.not.include('failed').and.to.not.include('lost')
  })

  it('are notified of a request that fails, not of a stream that its caller abandons, and once of the loss of the server', async () => {
    const { seen, of } = observers()
    const source = createMemorySource({
      beforeRead(file) {
        if (file === 9) throw new HowdahError('backup_damaged', 'file 9 is damaged')
      },
    })
    const server = await plane.serve(source, { observer: of('server') })
    const client = plane.connect(server, { observer: of('client') })
    await client.read(9, 0, 100).catch(() => undefined)
    expect(seen).to.deep.equal([
      ['server', 'failed'],
      ['client', 'failed'],
    ])
    for await (const _ of client.readMany([{ file: 3, offset: 0, length: 5_000_000 }])) break
    await server.close()
    await poll(() => (client.connected ? undefined : true), {
      deadlineMs: 10_000,
      failure: () => 'the client does not notice',
    })
    expect(seen.filter(([end]) => end === 'client')).to.deep.equal([
      ['client', 'failed'],
      ['client', 'lost'],
    ])
  })

  it('are notified of a connection that is refused', async () => {
    const { seen, of } = observers()
    const server = await plane.serve(createMemorySource(), { observer: of('server') })
    const client = plane.connect(server, { ticket: 'no ticket' })
    await client.read(3, 0, 100).catch(() => undefined)
    expect(seen).to.deep.include(['server', 'refused'])
  })
})
