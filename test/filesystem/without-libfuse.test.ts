/** Mounting without root on systems that lack something of libfuse 2, as this machine with parts of it hidden. Takes root. */
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, realpathSync, rmSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { openFuseDevice } from '../support/fuse-device.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)
const PROGRAM = path.join(import.meta.dirname, 'support/mount-unprivileged.ts')
const FUSE_NATIVE = realpathSync(path.join(import.meta.dirname, '../../node_modules/fuse-native'))

interface Seen {
  readonly findings: readonly string[]
  readonly read?: string
  readonly libfuse?: readonly string[]
}

describe('mounting without root', function () {
  this.timeout(60_000)
  let scratch: string
  let closeDevice: (() => Promise<void>) | undefined

  before(async () => {
    closeDevice = await openFuseDevice()
  })
  beforeEach(async () => {
    scratch = await scratchDirectory('howdah-without-')
  })
  afterEach(() => rmSync(scratch, { recursive: true, force: true }))
  after(() => closeDevice?.())

  /** Mounts where /usr has the changes that `change`, a shell script in a directory laid over it, makes. */
  async function mountWith(change: string): Promise<Seen> {
    const { uid, gid } = await postgresAccount()
    for (const name of ['upper', 'work']) mkdirSync(path.join(scratch, name))
    const script = `
      cd ${scratch}/upper
      hide() { mkdir -p "$(dirname "$1")"; mknod "$1" c 0 0; }
      ${change}
      cd /
      mount -t overlay -o lowerdir=/usr,upperdir=${scratch}/upper,workdir=${scratch}/work overlay /usr
      exec setpriv --reuid=${uid} --regid=${gid} --clear-groups ${process.execPath} ${PROGRAM}`
    const { stdout } = await run('unshare', ['--mount', '--propagation=private', '/bin/sh', '-euc', script])
    return JSON.parse(stdout) as Seen
  }

  const library = () => {
    const known = execFileSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' })
    const directory = path.dirname(/libfuse\.so\.2 .*=> (.*)/.exec(known)?.[1] ?? '')
    return path.relative('/usr', path.join(realpathSync(directory), 'libfuse.so.2'))
  }
  /** What a distribution with libfuse 3 only has. */
  const renamed = 'mkdir -p bin; cp -p /usr/bin/fusermount bin/fusermount3; hide bin/fusermount'

  it('takes the libfuse of the package where the system has none, and fusermount3 where there is no fusermount', async () => {
    const { findings, read, libfuse } = await mountWith(`hide ${library()}; ${renamed}`)
    expect(findings).to.deep.equal([])
    expect(read).to.equal('of the backup')
    expect(libfuse).to.deep.equal([path.join(FUSE_NATIVE, 'prebuilds/linux-x64/libfuse.so')])
  })

  it('takes the libfuse of the system where there is one', async () => {
    const { read, libfuse } = await mountWith('')
    expect(read).to.equal('of the backup')
    expect(libfuse).to.have.lengthOf(1)
    expect(libfuse?.[0]).to.match(/^\/(usr\/)?lib.*\/libfuse\.so\.2\.9/)
  })

  it('is refused with the packages to install where there is no fusermount, and no package fuse-native', async () => {
    const { findings } = await mountWith(
      `hide bin/fusermount; hide bin/fusermount3; mount -t tmpfs tmpfs ${FUSE_NATIVE}`,
    )
    expect(findings).to.have.lengthOf(2)
    expect(findings[0]).to.match(
      /cannot mount without libfuse 2: the package fuse-native is not installed; .*libfuse2t64 .*fuse-libs \(dnf\), and then Howdah again/,
    )
    expect(findings[1]).to.match(/fusermount is not installed .*Install the package fuse3/)
  })
})
