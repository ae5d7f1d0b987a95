/** What the target agent finds out of the kernel when it starts, on this kernel and on older ones that it is shown. */
import { execFile, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { INIT } from '../../agents/target/filesystem/drivers/kernel/protocol.ts'
import { isMounted } from '../../agents/target/filesystem/drivers/mount-table.ts'
import { probeMountName, removeStaleProbes } from '../../agents/target/isolation/stale-probes.ts'
import { type KernelSupport, kernelFindings } from '../../agents/target/preflight/kernel.ts'
import { type ImitatedKernel, imitating, KERNELS } from '../support/kernels/kernels.ts'

const MODULE = new URL('../../agents/target/preflight/kernel.ts', import.meta.url).href
const LOOK_UP = `import { lookUpKernel } from '${MODULE}'
console.log(JSON.stringify(await lookUpKernel(process.argv[1], 'trial-1-mount')))`
const run = promisify(execFile)
const GIB = 1024 ** 3

describe('what the target agent needs of the kernel', function () {
  this.timeout(30_000)
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync('/tmp/howdah-kernel-')
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  /** In a process of its own: this one sees its own kernel only. */
  async function lookUp(kernel?: ImitatedKernel): Promise<KernelSupport> {
    const { stdout } = await imitating(kernel, () =>
      run(process.execPath, ['--input-type=module', '--eval', LOOK_UP, directory]),
    )
    return JSON.parse(stdout) as KernelSupport
  }

  const messages = (support: KernelSupport) => kernelFindings(support).map(({ message }) => message)

  it('is asked of the kernel itself, by a mount that is gone afterwards', async () => {
    const { fuse } = await lookUp()
    expect(fuse?.minor).to.be.at.least(27)
    expect((fuse?.flags ?? 0) & INIT.NO_OPEN_SUPPORT).to.equal(INIT.NO_OPEN_SUPPORT)
    expect(readdirSync(directory)).to.deep.equal([])
  })

  it('is all there on Linux 6.1', async () => {
    const support = await lookUp(KERNELS['Linux 6.1'])
    expect(support.fuse?.minor).to.equal(37)
    expect(messages({ ...support, changedBytes: GIB / 4 })).to.deep.equal([])
  })

  it('is missing in part on Linux 5.10 and 4.18, which is said', async () => {
    const [fewer, ...none] = messages(await lookUp(KERNELS['Linux 5.10']))
    expect(fewer).to.include('Linux 5.10.0 offers FUSE 7.32 without HANDLE_KILLPRIV_V2')
    expect(none).to.deep.equal([])
    const [fewest, small, ...more] = messages(await lookUp(KERNELS['Linux 4.18']))
    expect(fewest).to.include('Linux 4.18.0 offers FUSE 7.27 without HANDLE_KILLPRIV_V2')
    expect(small).to.include('128 KiB')
    expect(more).to.deep.equal([])
  })

  it('is missing where no file could be opened, and then nothing can be mounted', () => {
    const flags = 0xffffffff
    const of = (fuse: KernelSupport['fuse']) =>
      kernelFindings({ release: '3.10.0', changedBytes: 0, ...(fuse && { fuse }) }).map(({ level, code }) => [
        level,
        code,
      ])
    const error = [[undefined, 'fuse_unusable']]
    expect(of({ minor: 26, flags })).to.deep.equal(error)
    expect(of({ minor: 45, flags: flags - INIT.NO_OPEN_SUPPORT })).to.deep.equal(error)
    // Without root it is not known, and libfuse's concern.
    expect(of(undefined)).to.deep.equal([])
  })

  it('is said of a machine whose memory makes the kernel hold gigabytes', () => {
    const fuse = { minor: 37, flags: 0xffffffff }
    const [message] = messages({ release: '6.1.0', fuse, changedBytes: 2 * GIB })
    expect(message).to.include('may hold 2.1 GB of changes of each mount')
  })

  it('leaves nothing to the next agent when it is killed while it asks', async () => {
    const { pid } = spawnSync('true')
    const mountPoint = `${directory}/${probeMountName(pid)}`
    mkdirSync(mountPoint)
    spawnSync('mount', ['-t', 'tmpfs', 'none', mountPoint])
    expect(isMounted(mountPoint)).to.equal(true)
    await removeStaleProbes(directory)
    expect(isMounted(mountPoint)).to.equal(false)
    expect(readdirSync(directory)).to.deep.equal([])
  })
})
