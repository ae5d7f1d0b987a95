import { expect } from 'chai'
import { fstab, type Host, type RootRequest, rootLayout } from '../../agents/target/isolation/root-layout.ts'

/** A machine of directories and links: path → what is there. */
function machine(entries: Readonly<Record<string, 'directory' | 'other' | `-> ${string}`>>): Host {
  const link = (path: string) => entries[path]?.startsWith('-> ')
  return {
    mounts: [
      { mountPoint: '/', type: 'ext4' },
      { mountPoint: '/usr/local', type: 'xfs' },
      { mountPoint: '/usr/share/far', type: 'nfs4' },
    ],
    hidesProcesses: true,
    look: (path) =>
      link(path) ? 'symlink' : ((entries[path] as 'directory' | 'other' | undefined) ?? 'absent'),
    readlink: (path) => entries[path]?.slice(3) ?? '',
    list: (directory) =>
      Object.keys(entries)
        .filter((path) => path.startsWith(`${directory}/`) && !path.slice(directory.length + 1).includes('/'))
        .map((path) => path.slice(directory.length + 1)),
  }
}

const HOST = machine({
  '/usr': 'directory',
  '/etc': 'directory',
  '/etc/hosts': 'other',
  '/bin': '-> usr/bin',
  '/opt': 'directory',
  '/opt/vendor': 'directory',
  '/opt/notes': 'other',
  '/srv': 'directory',
  '/srv/imports': 'directory',
  '/dev/null': 'other',
  '/home/pg/bin': 'directory',
  '/home/pg': 'directory',
  '/var/tmp/suite': 'directory',
  '/var/tmp/suite/output': 'directory',
})

const REQUEST: RootRequest = {
  root: '/var/tmp/howdah/s-1/root',
  mountPoint: '/tmp/howdah/s-1',
  cachePath: '/var/tmp/howdah/s-1',
  binaries: '/usr/lib/postgresql/15/bin',
  readable: [],
  writable: [],
  tablespaces: [],
}

const layoutOf = (request: Partial<RootRequest> = {}) => rootLayout({ ...REQUEST, ...request }, HOST)

/** What is mounted at a path of the new root; the last one shows. */
function mountedAt(path: string, request: Partial<RootRequest> = {}) {
  return layoutOf(request).mounts.findLast(({ target }) => target === `${REQUEST.root}${path}`)
}

describe('The root directory of a session', () => {
  it('has programs and configuration, read-only', () => {
    expect(mountedAt('/usr')).to.include({ source: '/usr', options: 'bind,ro' })
    expect(mountedAt('/etc')).to.include({ source: '/etc', options: 'bind,ro' })
    expect(layoutOf().symlinks).to.deep.include({ path: `${REQUEST.root}/bin`, target: 'usr/bin' })
  })

  it('includes the mounts below them, except network file systems, which may hang', () => {
    expect(mountedAt('/usr/local')).to.include({ source: '/usr/local', options: 'bind,ro' })
    expect(mountedAt('/usr/share/far')).to.equal(undefined)
  })

  it('contains nothing of /srv, /home and /run', () => {
    const paths = layoutOf().mounts.map(({ source }) => source)
    expect(paths.filter((source) => /^\/(srv|home|run|var\/lib)/.test(source))).to.deep.equal([])
  })

  it('has the directories of the session and private temporary directories, writable', () => {
    expect(mountedAt('/tmp')).to.include({ source: '/var/tmp/howdah/s-1/tmp', options: 'bind' })
    expect(mountedAt('/var/tmp')).to.include({ source: '/var/tmp/howdah/s-1/var_tmp', options: 'bind' })
    expect(mountedAt('/tmp/howdah/s-1')).to.include({ source: '/tmp/howdah/s-1', options: 'bind' })
    expect(mountedAt('/var/tmp/howdah/s-1')).to.include({ source: '/var/tmp/howdah/s-1', options: 'bind' })
  })

  it('has directories that the configuration allows below its temporary directories, not hidden by these', () => {
    const request = { readable: ['/var/tmp/suite'], writable: ['/var/tmp/suite/output'] }
    const { mounts, directories } = layoutOf(request)
    const targets = mounts.map(({ target }) => target.slice(REQUEST.root.length))
    expect(targets.indexOf('/var/tmp/suite')).to.be.above(targets.indexOf('/var/tmp'))
    expect(targets.indexOf('/var/tmp/suite/output')).to.be.above(targets.indexOf('/var/tmp/suite'))
    expect(directories.map(({ path }) => path)).to.include('/var/tmp/howdah/s-1/var_tmp/suite')
    expect(mountedAt('/var/tmp/suite/output', request)).to.include({ options: 'bind' })
  })

  it('has mount points for a session that is below its temporary directories', () => {
    const made = layoutOf().directories.map(({ path }) => path)
    expect(made).to.include('/var/tmp/howdah/s-1/tmp/howdah/s-1')
    expect(made).to.include('/var/tmp/howdah/s-1/var_tmp/howdah/s-1')
  })

  it('has the directories that the configuration allows', () => {
    expect(mountedAt('/srv/imports', { readable: ['/srv/imports'] })).to.include({ options: 'bind,ro' })
    expect(mountedAt('/srv/imports', { writable: ['/srv/imports'] })).to.include({ options: 'bind' })
    expect(mountedAt('/srv/none', { writable: ['/srv/none'] })).to.equal(undefined)
  })

  it('has the installation of PostgreSQL, wherever it is', () => {
    expect(mountedAt('/home/pg', { binaries: '/home/pg/bin' })).to.include({ options: 'bind,ro' })
  })

  it('binds a directory of the session at the location of a production tablespace', () => {
    const directory = '/tmp/howdah/s-1/tblspc/at_data'
    for (const location of ['/data/ts', '/srv/imports', '/tmp/ts', '/opt/vendor/pg/ts']) {
      const mount = mountedAt(location, { tablespaces: [{ location, directory }] })
      expect(mount, location).to.include({ source: directory, options: 'bind' })
    }
  })

  it('binds the entries of a tree one by one where a tablespace location in it does not exist', () => {
    const request = { tablespaces: [{ location: '/opt/pg/ts', directory: '/tmp/howdah/s-1/tblspc/at_opt' }] }
    expect(mountedAt('/opt', request)).to.equal(undefined)
    expect(mountedAt('/opt/vendor', request)).to.include({ source: '/opt/vendor', options: 'bind,ro' })
    expect(mountedAt('/opt/notes', request)).to.include({ source: '/opt/notes', options: 'bind,ro' })
    const { directories, files } = layoutOf(request)
    expect(directories.map(({ path }) => path)).to.include(`${REQUEST.root}/opt/pg/ts`)
    expect(files).to.include(`${REQUEST.root}/opt/notes`)
  })

  it('refuses a tablespace location that would hide a directory the instance needs', () => {
    for (const location of [
      '/',
      '/usr',
      '/tmp',
      '/proc/x',
      '/tmp/howdah',
      '/var/tmp/howdah/s-1/x',
      'relative',
    ]) {
      const request = { tablespaces: [{ location, directory: '/tmp/howdah/s-1/tblspc/x' }] }
      expect(() => layoutOf(request), location).to.throw('is a directory that the instance itself needs')
    }
  })

  it('escapes spaces and special characters in fstab', () => {
    const mount = { source: '/srv/a b', target: '/r/#1\\', type: 'none', options: 'bind' }
    expect(fstab([mount])).to.equal('/srv/a\\040b /r/\\0431\\134 none bind 0 0\n')
  })
})
