/**
 * The mounts that make up the root directory of a session's server. Pure.
 *
 * Programs, libraries and /etc are read-only. Beside them there are only the session's own directories, a private /tmp
 * and /var/tmp, and what the agent's configuration allows. Sockets of other servers, and paths that a backup or its WAL
 * names, do not exist inside. A tablespace location is bound to a directory of the session.
 */
import { basename, dirname, join } from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'
import { type HostMount, isWithin } from './host-mounts.ts'

export interface RootRequest {
  /** The directory that becomes the server's root. */
  readonly root: string
  readonly mountPoint: string
  readonly cachePath: string
  /** Directory of PostgreSQL's executables, with symbolic links resolved. */
  readonly binaries: string
  /** Absolute directories, from the agent's configuration. */
  readonly readable: readonly string[]
  readonly writable: readonly string[]
  readonly tablespaces: readonly TablespaceBinding[]
  /** A file that replaces /etc/hosts. */
  readonly hostsFile?: string | undefined
}

export interface TablespaceBinding {
  /** Where the WAL says that the tablespace is. */
  readonly location: string
  /** The directory of the session that is mounted there. */
  readonly directory: string
}

/** What the layout depends on of the machine. */
export interface Host {
  readonly mounts: readonly HostMount[]
  /** Whether a single mount of /proc can hide processes (Linux 5.8, proc(5)). */
  readonly hidesProcesses: boolean
  /** What is at a path; symbolic links are not followed. */
  readonly look: (path: string) => 'absent' | 'directory' | 'symlink' | 'other'
  readonly readlink: (path: string) => string
  readonly list: (directory: string) => string[]
}

/** One mount, as a line of fstab(5). Paths are those of the machine; `target` is below `root`. */
export interface RootMount {
  readonly source: string
  readonly target: string
  readonly type: string
  readonly options: string
}

export interface RootLayout {
  /** To be created in this order, with their parents, before anything is mounted. Absolute paths of the machine. */
  readonly directories: readonly { readonly path: string; readonly mode: number }[]
  /** Empty files that serve as mount points. */
  readonly files: readonly string[]
  readonly symlinks: readonly { readonly path: string; readonly target: string }[]
  readonly mounts: readonly RootMount[]
}

/** Where distributions keep programs, libraries, time zones, locales and their configuration. */
const SYSTEM = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32', 'usr', 'etc', 'opt', 'nix', 'gnu']
const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty']
/** Looking up a path on one of these may block without end when its server is unreachable. */
const MAY_HANG = /^(?:nfs|cifs|smb|fuse|autofs|9p|ceph|glusterfs|lustre)/
const READ_ONLY = 'bind,ro'
const READ_WRITE = 'bind'

/** Directories that cannot be the location of a tablespace. */
const TAKEN = [
  '/',
  '/proc',
  '/sys',
  '/dev',
  '/run',
  '/tmp',
  '/var',
  '/var/tmp',
  ...SYSTEM.map((name) => `/${name}`),
]

/** @throws HowdahError `target_unreachable` for a tablespace location that a session cannot have */
export function rootLayout(request: RootRequest, host: Host): RootLayout {
  const { root, mountPoint, cachePath, hostsFile } = request
  const inRoot = (path: string) => (path === '/' ? root : `${root}${path}`)
  const directories = new Map<string, number>()
  const files: string[] = []
  const symlinks: { path: string; target: string }[] = []
  const mounts: RootMount[] = []

  const makeDirectory = (path: string, mode = 0o755): void => {
    if (!directories.has(path)) directories.set(path, mode)
  }
  /** Bind-mounted directories, by their path in the new root. */
  const bound = new Map<string, { readonly source: string; readonly own: boolean }>()

  /** Plans a mount point at `path` of the new root. */
  function makeMountPoint(path: string): void {
    const [tree, { source, own }] = enclosing(path) ?? ['/', { source: root, own: true }]
    const there = join(source, path.slice(tree === '/' ? 0 : tree.length))
    if (own && there !== source) makeDirectory(there)
  }

  function enclosing(path: string) {
    return [...bound].filter(([tree]) => isWithin(path, tree)).sort(([a], [b]) => b.length - a.length)[0]
  }

  /** Whether a tree of the machine that is bound already contains the path. */
  function isReadable(path: string): boolean {
    return enclosing(path)?.[1].own === false
  }

  function bind(source: string, path: string, options: string, own = false): void {
    makeMountPoint(path)
    mounts.push({ source, target: inRoot(path), type: 'none', options })
    bound.set(path, { source, own })
  }

  /**
   * Binds a tree of the machine read-only, with the mounts below it. `holes` are future mount points in it, which may not
   * exist.
   */
  function bindTree(tree: string, holes: readonly string[]): void {
    const missing = holes.filter((hole) => isWithin(hole, tree) && host.look(hole) === 'absent')
    if (missing.length > 0) {
      // A read-only tree takes no new mount point: its entries are bound one by one, beside the missing ones.
      makeMountPoint(tree)
      makeDirectory(inRoot(tree))
      for (const name of host.list(tree)) bindEntry(join(tree, name), holes)
      return
    }
    bind(tree, tree, READ_ONLY)
    for (const { mountPoint: below, type } of host.mounts) {
      if (below !== tree && isWithin(below, tree) && !MAY_HANG.test(type) && !isWithin(root, below))
        mounts.push({ source: below, target: inRoot(below), type: 'none', options: READ_ONLY })
    }
  }

  function bindEntry(path: string, holes: readonly string[]): void {
    const kind = host.look(path)
    if (kind === 'directory') bindTree(path, holes)
    else if (kind === 'symlink') symlinks.push({ path: inRoot(path), target: host.readlink(path) })
    else if (kind === 'other') {
      files.push(inRoot(path))
      mounts.push({ source: path, target: inRoot(path), type: 'none', options: READ_ONLY })
    }
  }

  makeDirectory(root)
  mounts.push({ source: root, target: root, type: 'none', options: READ_WRITE })

  const tablespaces = [...request.tablespaces].sort((a, b) => depth(a.location) - depth(b.location))
  for (const { location } of tablespaces) requireFree(location, request)
  const holes = tablespaces.map(({ location }) => location)
  for (const name of SYSTEM) bindEntry(`/${name}`, holes)

  makeDirectory(inRoot('/dev'))
  for (const name of DEVICES) {
    if (host.look(`/dev/${name}`) !== 'other') continue
    files.push(inRoot(`/dev/${name}`))
    mounts.push({ source: `/dev/${name}`, target: inRoot(`/dev/${name}`), type: 'none', options: READ_WRITE })
  }
  for (const [name, target] of DEVICE_LINKS) symlinks.push({ path: inRoot(`/dev/${name}`), target })
  bind('/dev/shm', '/dev/shm', READ_WRITE)
  if (host.look('/sys') === 'directory') bind('/sys', '/sys', READ_ONLY)
  makeMountPoint('/proc')
  // Hides the processes of other sessions with the same user, where the kernel denies tracing them.
  mounts.push({
    source: 'proc',
    target: inRoot('/proc'),
    type: 'proc',
    options: `${host.hidesProcesses ? 'hidepid=ptraceable,' : ''}nosuid,nodev,noexec`,
  })
  makeDirectory(inRoot('/run'))
  makeDirectory(inRoot('/var'))
  symlinks.push({ path: inRoot('/var/run'), target: '/run' })
  for (const [path, name] of TEMPORARY) {
    makeDirectory(join(cachePath, name), 0o1777)
    bind(join(cachePath, name), path, READ_WRITE, true)
  }
  // After the temporary directories, which would hide those that are below them.
  for (const directory of [libraryRoot(request.binaries), ...request.readable])
    if (!isReadable(directory) && host.look(directory) === 'directory') bindTree(directory, holes)
  for (const directory of request.writable)
    if (host.look(directory) === 'directory') bind(directory, directory, READ_WRITE)
  for (const { location, directory } of tablespaces) bind(directory, location, READ_WRITE, true)
  bind(mountPoint, mountPoint, READ_WRITE)
  bind(cachePath, cachePath, READ_WRITE)
  if (hostsFile !== undefined && host.look('/etc/hosts') === 'other')
    mounts.push({ source: hostsFile, target: inRoot('/etc/hosts'), type: 'none', options: READ_ONLY })
  return {
    directories: [...directories].map(([path, mode]) => ({ path, mode })),
    files,
    symlinks,
    mounts,
  }
}

/** Links that shells and programs expect in /dev; proc(5). */
const DEVICE_LINKS = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
] as const

/** The server's private temporary directories, and their names in the write cache; created anew at each start. */
export const TEMPORARY = [
  ['/tmp', 'tmp'],
  ['/var/tmp', 'var_tmp'],
] as const

/** PostgreSQL finds its libraries and share files relative to the directory of its executables. */
function libraryRoot(binaries: string): string {
  return basename(binaries) === 'bin' ? dirname(binaries) : binaries
}

const depth = (path: string) => path.split('/').length

function requireFree(location: string, { mountPoint, cachePath, binaries }: RootRequest): void {
  const own = [mountPoint, cachePath, libraryRoot(binaries)]
  const isTaken =
    !location.startsWith('/') ||
    TAKEN.includes(location) ||
    ['/proc', '/sys', '/dev'].some((directory) => isWithin(location, directory)) ||
    own.some((path) => isWithin(path, location) || isWithin(location, path))
  if (isTaken)
    throw new HowdahError(
      'target_unreachable',
      `The WAL has a tablespace whose location ${JSON.stringify(location)} is a directory that the instance itself needs. Recover to a point before it was created.`,
      { field: 'recoverTo' },
    )
}

/** Lines of fstab(5). */
export function fstab(mounts: readonly RootMount[]): string {
  return mounts
    .map(
      ({ source, target, type, options }) =>
        `${fstabField(source)} ${fstabField(target)} ${type} ${options} 0 0\n`,
    )
    .join('')
}

/** fstab(5): white space separates fields, so within one it is written in octal, as is the sign of a comment. */
function fstabField(path: string): string {
  return path.replaceAll(
    /[\s\\#]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`,
  )
}
