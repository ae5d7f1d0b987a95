/** What a mount process counts, asked for on its control socket, by either driver and over the data plane. */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { signTicket } from '../../agents/dataplane/protocol/ticket.ts'
import type { LatencyTotals } from '../../config/monitoring/latencies.ts'
import { ticket, ticketKey, useDataPlane } from '../dataplane/fixture.ts'
import { directorySource } from '../filesystem/support/directory-source.ts'
import { pattern } from '../filesystem/support/memory-source.ts'
import { DRIVERS, makeScratch, type Scratch, shell, startMount } from '../filesystem/support/mounted.ts'
import { poll } from '../support/poll.ts'

const OWNER = { uid: 0, gid: 0 }
const MAIN = fileURLToPath(new URL('../../agents/target/mount-process/program/main.ts', import.meta.url))
const FILE_BYTES = 3_000_000

describe('the measurements of a mount process', function () {
  this.timeout(60_000)
  const plane = useDataPlane()
  let scratch: Scratch

  beforeEach(async () => {
    scratch = await makeScratch(OWNER)
    writeFileSync(`${scratch.base}/table`, pattern(FILE_BYTES))
  })
  afterEach(() => scratch.remove())

  const countOf = (totals: LatencyTotals | undefined): number =>
    totals?.counts.reduce((sum, count) => sum + count, 0) ?? 0

  for (const driver of DRIVERS) {
    it(`count the requests of the kernel and their bytes, with the driver ${driver}`, async () => {
      const mount = await startMount(scratch, scratch.base, OWNER, { driver })
      await shell(`cmp table ${scratch.base}/table`, scratch.data)
      await shell(
        'dd if=/dev/zero of=written bs=64k count=16 conv=fsync status=none; rm written',
        scratch.data,
      )
      const { fuse } = await mount.measurements()
      expect(fuse.read?.bytes).to.equal(FILE_BYTES)
      expect(fuse.write?.bytes).to.equal(16 * 65_536)
      expect(countOf(fuse.read)).to.be.within(1, FILE_BYTES / 4096)
      expect(countOf(fuse.fsync)).to.be.at.least(1)
      expect(countOf(fuse.unlink)).to.be.at.least(1)
      expect(fuse.read?.seconds).to.be.within(1e-6, 30)
    })
  }

  it('count a request that fails, without bytes', async () => {
    const mount = await startMount(scratch, scratch.base, OWNER, { driver: 'kernel' })
    const before = countOf((await mount.measurements()).fuse.rmdir)
    await shell('! rmdir table/ 2>/dev/null; mkdir a; touch a/b; ! rmdir a 2>/dev/null', scratch.data)
    const { rmdir } = (await mount.measurements()).fuse
    expect(countOf(rmdir)).to.equal(before + 1)
    expect(rmdir?.bytes).to.equal(0)
  })

  it('count what was asked of the mount server, direct reads among those of the kernel, and how often it was lost', async () => {
    for (const part of ['ca', 'cert', 'key'] as const)
      writeFileSync(`${scratch.directory}/${part}.pem`, plane.certificates.target[part], { mode: 0o600 })
    const server = await plane.serve(directorySource(scratch.base))
    const file = (name: string) => `${scratch.directory}/${name}.pem`
    const dataPlane = {
      ...{ host: '127.0.0.1', port: server.address.port, ticket: signTicket(ticket, ticketKey) },
      ...{ serverName: 'vault', tls: { ca: file('ca'), cert: file('cert'), key: file('key') } },
    }
    const mount = await startMount(scratch, scratch.base, OWNER, { driver: 'kernel', dataPlane }, MAIN)
    await shell('dd if=table of=/dev/null bs=8k count=1 iflag=direct status=none', scratch.data)
    const read = await mount.measurements()
    expect(countOf(read.dataPlane.tree)).to.equal(1)
    expect(countOf(read.dataPlane.read)).to.be.at.least(1)
    expect(read.dataPlane.read?.bytes).to.be.at.least(8192)
    expect(read.fuse.read?.bytes).to.equal(8192)
    expect(read).to.include({ failures: 0, losses: 0 })
    await server.close()
    await poll(async () => ((await mount.measurements()).losses === 1 ? true : undefined), {
      deadlineMs: 20_000,
      failure: () => 'the loss of the mount server is not counted',
    })
  })
})
