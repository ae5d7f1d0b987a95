/** Write caches on other file systems than the tests' own, and which file systems are refused or warned of. */
import { expect } from 'chai'
import { cacheRootFindings, remarks, rootFindings } from '../../agents/target/preflight/file-system.ts'
import { fileSystemOf } from '../../agents/target/room/file-system-of.ts'
import { BTRFS_QUOTA, type MadeFileSystem, makeFileSystem } from '../support/file-systems.ts'
import { KERNELS } from '../support/kernels/kernels.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { cacheWorks } from './support/cache-works.ts'
import { makeScratch, python, startMount } from './support/mounted.ts'

/** The soak takes more of them, and longer: `npm run soak -- file-systems`. */
for (const name of ['xfs', 'btrfs', 'tmpfs', 'overlay'] as const) {
  describe(`a write cache on ${name}`, () => cacheWorks(name, { operations: 60, seed: 20_261_201 }))
}

describe('a write cache on btrfs with a quota', function () {
  this.timeout(60_000)
  let made: MadeFileSystem

  before(async () => {
    made = await makeFileSystem('btrfs with a quota')
  })
  after(() => made?.remove())

  it('is refused before anything is mounted, with the reason', async () => {
    const [finding, ...more] = await cacheRootFindings(made.directory)
    expect(more).to.deep.equal([])
    expect(finding).to.include({ code: 'file_system_unusable' })
    expect(finding?.level).to.equal(undefined)
    expect(finding?.message).to.include('quota groups with limits').and.include('limits.cacheBytes')
  })

  it('reports that there is no space where the quota is used up nevertheless, and is still served', async () => {
    const owner = await postgresAccount()
    const scratch = await makeScratch(owner, { parent: made.directory })
    // As on a kernel that caches no writes, so that the writer hears of it.
    const place = { ...scratch, kernel: KERNELS['Linux 5.10'] }
    try {
      const mount = await startMount(place, scratch.base, owner, { driver: 'kernel' })
      await python(
        `
import errno, os
fd = os.open('f', os.O_RDWR | os.O_CREAT)
try:
    for n in range(${(2 * BTRFS_QUOTA) / 8192}): os.pwrite(fd, os.urandom(8192), n * 8192)
except OSError as error:
    assert error.errno == errno.ENOSPC, error
else: raise AssertionError('all was written')
assert len(os.pread(fd, 8192, 0)) == 8192`,
        scratch.data,
      )
      expect(await mount.answers()).to.equal(true)
    } finally {
      await scratch.remove()
    }
  })
})

describe('a root of the target agent', () => {
  const mounted = (type: string, options = 'rw') =>
    ['1 0 8:1 / / rw - ext4 /dev/sda1 rw', `2 1 0:9 / /mnt ${options} - ${type} there ${options}`].join('\n')
  const told = (type: string, options?: string) => fileSystemOf('/mnt', mounted(type, options))

  it('is known by the file system that it is on, not by one above or beside it', () => {
    expect(told('xfs')).to.include({ mountPoint: '/mnt', type: 'xfs', source: 'there' })
    expect(fileSystemOf('/', mounted('xfs'))).to.include({ mountPoint: '/', type: 'ext4' })
    expect(fileSystemOf('/tmp', mounted('xfs')).type).to.equal('ext4')
  })

  it('is refused on a network file system', () => {
    for (const type of ['nfs4', 'nfs', 'cifs', 'smb3', 'fuse.sshfs', 'ceph']) {
      const [finding] = rootFindings('cache', '/mnt', told(type))
      expect(finding?.level, type).to.equal(undefined)
      expect(finding?.message).to.include(
        `/mnt is on ${type}, which cannot be used: it is a network file system`,
      )
    }
    for (const type of ['ext4', 'xfs', 'btrfs', 'overlay', 'tmpfs', 'virtiofs'])
      expect(rootFindings('cache', '/mnt', told(type)), type).to.deep.equal([])
  })

  it('is refused for write caches, and not for mounts, on a file system that was not tried and says late that it is full', () => {
    for (const type of ['zfs', 'bcachefs']) {
      const [finding] = rootFindings('cache', '/mnt', told(type))
      expect(finding?.message).to.include(
        `/mnt is on ${type}, which cannot be used: Howdah was not tried on it`,
      )
      expect(rootFindings('mount', '/mnt', told(type))).to.deep.equal([])
    }
  })

  it('is warned of where what is synced can be lost', () => {
    const warnings = (type: string, options?: string) =>
      remarks('/mnt', told(type, options)).map(({ message }) => message)
    expect(warnings('overlay', 'rw,volatile')[0]).to.include('mounted with volatile')
    expect(warnings('ext4', 'rw,nobarrier')[0]).to.include('mounted with nobarrier')
    expect(warnings('tmpfs')[0]).to.include('lost when it restarts')
    expect(warnings('fuse.encfs')[0]).to.include('as durable as its server makes it')
    expect(warnings('xfs')).to.deep.equal([])
  })
})
