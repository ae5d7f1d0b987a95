import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { signTicket } from '../../agents/dataplane/protocol/ticket.ts'
import { ticket, ticketKey, useDataPlane } from '../dataplane/fixture.ts'
import { directorySource } from './support/directory-source.ts'
import { pattern } from './support/memory-source.ts'
import { makeScratch, type Scratch, shell, startMount } from './support/mounted.ts'

const OWNER = { uid: 0, gid: 0 }
const MAIN = fileURLToPath(new URL('../../agents/target/mount-process/program/main.ts', import.meta.url))

describe('a mount over the data plane', function () {
  this.timeout(60_000)
  const plane = useDataPlane()
  let scratch: Scratch
  let base: string
  let data: string

  beforeEach(async () => {
    scratch = await makeScratch(OWNER)
    base = scratch.base
    data = scratch.data
    writeFileSync(`${base}/table`, pattern(3_000_000))
    for (const part of ['ca', 'cert', 'key'] as const) {
      writeFileSync(`${scratch.directory}/${part}.pem`, plane.certificates.target[part], { mode: 0o600 })
    }
  })
  afterEach(() => scratch.remove())

  function mount(port: number, readDeadlineMs = 20_000) {
    const dataPlane = {
      host: '127.0.0.1',
      port,
      ticket: signTicket(ticket, ticketKey),
      serverName: 'vault',
      tls: {
        ca: `${scratch.directory}/ca.pem`,
        cert: `${scratch.directory}/cert.pem`,
        key: `${scratch.directory}/key.pem`,
      },
    }
    return startMount(scratch, base, OWNER, { dataPlane, readDeadlineMs }, MAIN)
  }

  it('serves the backup of its ticket', async () => {
    const server = await plane.serve(directorySource(base))
    const mounted = await mount(server.address.port)
    await shell(`cmp table ${base}/table`, data)
    expect(await mounted.status()).to.include({ connected: true, totalBytes: 3_000_000 })
  })

  it('reads local blocks while the mount server is unreachable, and waits for missing ones', async () => {
    const first = await plane.serve(directorySource(base))
    const { port } = first.address
    const mounted = await mount(port)
    await shell('head -c 8192 table > /dev/null', data)
    await first.close()
    await shell(`head -c 8192 table | cmp -n 8192 - ${base}/table`, data)
    const waiting = shell(`cmp table ${base}/table`, data)
    await plane.serve(directorySource(base), { port })
    await waiting
    expect((await mounted.status()).connected).to.equal(true)
  })

  it('fails with EIO past the deadline and serves again when the mount server is back', async () => {
    const first = await plane.serve(directorySource(base))
    const { port } = first.address
    const mounted = await mount(port, 500)
    await first.close()
    expect(await shell('cat table 2>&1 > /dev/null || echo failed', data)).to.contain('Input/output error')
    const status = await mounted.status()
    expect(status.connected).to.equal(false)
    expect(status.lastError).to.be.a('string')
    await plane.serve(directorySource(base), { port })
    await shell(`until cmp -s table ${base}/table; do sleep 0.05; done`, data)
  })
})
