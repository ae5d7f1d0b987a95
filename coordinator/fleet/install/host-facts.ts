/** What the check script found on a host. */
import type { AgentKind } from '../host/host-paths.ts'

export interface Space {
  /** Directory that Howdah uses. */
  readonly path: string
  readonly freeBytes: number
  readonly fileSystem: string
  readonly mountOptions: readonly string[]
}

export interface Reach {
  readonly host: string
  readonly port: number
  /** Undefined: it could not be tried. */
  readonly reached: boolean | undefined
  /** Why not. */
  readonly reason: string
}

export interface HostFacts {
  readonly isRoot: boolean
  readonly hostname: string
  readonly system: string
  readonly kernel: string
  readonly machine: string
  readonly libc: { readonly name: 'glibc' | 'musl'; readonly version: string } | undefined
  /** Its version; undefined: another init. */
  readonly systemd: string | undefined
  readonly fuse: 'usable' | 'closed' | 'missing'
  /** Programs that are installed, by name. */
  readonly programs: ReadonlyMap<string, string>
  readonly hasCgroup2: boolean
  readonly postgres: readonly { readonly version: string; readonly path: string }[]
  readonly users: ReadonlySet<string>
  readonly spaces: readonly Space[]
  readonly selinux: 'enforcing' | 'permissive' | 'off'
  readonly apparmor: boolean
  readonly reach: readonly Reach[]
  /** Version of Howdah that is current; undefined: none. */
  readonly installed: string | undefined
  readonly previous: string | undefined
  /** All versions in /opt/howdah. */
  readonly versions: readonly string[]
  /** Version of the Debian package, which may be empty; undefined: Howdah did not come by one. */
  readonly package: string | undefined
  /** Agents that are set up; the name is empty where it may not be read. */
  readonly agents: readonly { readonly kind: AgentKind; readonly name: string }[]
}

/** Undefined: the output was cut off. */
export function parseFacts(output: string): HostFacts | undefined {
  const lines = output.trimEnd().split('\n')
  if (lines.at(-1) !== 'end') return undefined
  const facts = lines.map((line) => {
    const [key = '', ...words] = line.split(' ')
    return { key, words }
  })
  const all = (key: string): string[][] => facts.filter((fact) => fact.key === key).map(({ words }) => words)
  const one = (key: string): string | undefined => all(key)[0]?.join(' ')
  const [libc] = all('libc')
  const fuse = one('fuse')
  const selinux = one('selinux')
  return {
    isRoot: one('uid') === '0',
    hostname: one('hostname') ?? '',
    system: one('system') ?? 'unknown system',
    kernel: one('kernel') ?? '',
    machine: one('machine') ?? '',
    libc:
      libc === undefined
        ? undefined
        : { name: libc[0] === 'musl' ? 'musl' : 'glibc', version: libc[1] ?? '' },
    systemd: one('systemd'),
    fuse: fuse === 'usable' || fuse === 'closed' ? fuse : 'missing',
    programs: new Map(all('program').map(([name = '', path = '']) => [name, path])),
    hasCgroup2: one('cgroup2') === 'yes',
    postgres: all('postgres').map(([version = '', path = '']) => ({ version, path })),
    users: new Set(all('user').map(([name = '']) => name)),
    spaces: all('space').map(([path = '', free = '', fileSystem = '', options = '']) => ({
      ...{ path, fileSystem, freeBytes: Number(free) * 1024 },
      mountOptions: options.split(','),
    })),
    selinux: selinux === 'enforcing' || selinux === 'permissive' ? selinux : 'off',
    apparmor: one('apparmor') === 'enabled',
    reach: all('reach').map(([host = '', port = '', reached = '', ...reason]) => ({
      ...{ host, port: Number(port), reason: reason.join(' ') },
      reached: reached === 'untried' ? undefined : reached === 'yes',
    })),
    installed: one('installed'),
    previous: one('previous'),
    versions: all('version').map((words) => words.join(' ')),
    package: one('package'),
    agents: all('agent').map(([kind, name = '']) => ({ kind: kind === 'mount' ? 'mount' : 'target', name })),
  }
}
