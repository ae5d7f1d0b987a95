/** What the facts of a host mean for an agent there: all findings at once, each with what to do. Pure. */
import { formatBytes } from '../../../messages/format-bytes.ts'
import type { AgentKind } from '../host/host-paths.ts'
import type { HostFacts, Reach } from './host-facts.ts'

export interface HostFinding {
  readonly level: 'ok' | 'warning' | 'error'
  /** What was looked at: `libc`, `fuse`, … */
  readonly check: string
  readonly message: string
}

export interface Circumstances {
  /** Undefined: either kind may be meant. What only the other one needs is left out. */
  readonly kind: AgentKind | undefined
  /** The host's clock minus ours, and how far that may be off; milliseconds. */
  readonly clockOffsetMs: number
  readonly clockErrorMs: number
  /** Room in /opt that an installation takes. */
  readonly neededBytes: number
  /** How the login becomes root; undefined: it was not possible, for this reason. */
  readonly root: { readonly how: string } | { readonly problem: string }
}

/** The oldest GNU C library for which Node.js is built; https://github.com/nodejs/node/blob/v24.x/BUILDING.md */
const GLIBC = [2, 28] as const
const KERNEL = [4, 18] as const
/** Clocks further apart than this make times of sessions and events misleading. */
const CLOCK_WARNING_MS = 5_000
/** A certificate is valid from a day before it was signed. */
const CLOCK_ERROR_MS = 20 * 3600 * 1000
/** As cache.minimumFreeBytes of the target agent. */
const CACHE_BYTES = 1024 ** 3
const ISOLATION = ['unshare', 'mount', 'umount', 'pivot_root', 'setpriv'] as const
const UNPACKING = ['tar', 'gzip', 'sha256sum'] as const

type Judgement = readonly [level: HostFinding['level'], message: string]

export function findings(facts: HostFacts, circumstances: Circumstances): HostFinding[] {
  const isTarget = circumstances.kind !== 'mount'
  const checks: readonly (readonly [string, readonly Judgement[]])[] = [
    ['login', [login(circumstances)]],
    ['system', [['ok', facts.system]]],
    ['architecture', [architecture(facts)]],
    ['libc', [libc(facts)]],
    ['kernel', [kernel(facts)]],
    ['init', [init(facts)]],
    ['programs', unpacking(facts)],
    ['fuse', isTarget ? fuse(facts) : []],
    ['isolation', isTarget ? isolation(facts) : []],
    ['postgresql', isTarget ? postgres(facts) : []],
    ['room', room(facts, circumstances.neededBytes, isTarget)],
    ['mount options', mountOptions(facts)],
    ['clock', [clock(circumstances)]],
    ['access control', accessControl(facts)],
    ['network', facts.reach.map(reach)],
    ['howdah', installed(facts)],
  ]
  return checks.flatMap(([check, judgements]) =>
    judgements.map(([level, message]) => ({ level, check, message })),
  )
}

function login({ root }: Circumstances): Judgement {
  if ('problem' in root)
    return [
      'error',
      `Nothing can be installed without becoming root: ${root.problem} What only root sees was not looked at.`,
    ]
  return ['ok', root.how === 'root' ? 'The login is root.' : `The login becomes root by ${root.how}.`]
}

function architecture({ machine }: HostFacts): Judgement {
  if (machine === 'x86_64') return ['ok', machine]
  return ['error', `The bundle is built for x86_64, and this is ${machine}. Choose another server.`]
}

function libc({ libc: found }: HostFacts): Judgement {
  if (found === undefined)
    return ['warning', 'The C library could not be recognised; GNU libc 2.28 or newer is needed.']
  if (found.name === 'musl')
    return [
      'error',
      'The system is built on musl (as Alpine), for which there is no bundle. Choose a server with GNU libc.',
    ]
  if (isAtLeast(found.version, GLIBC)) return ['ok', `GNU libc ${found.version}`]
  return [
    'error',
    `GNU libc ${found.version} is too old: ${GLIBC.join('.')} or newer is needed (Debian 10, RHEL 8). Upgrade the system.`,
  ]
}

function kernel({ kernel: found }: HostFacts): Judgement {
  if (isAtLeast(found, KERNEL)) return ['ok', `Linux ${found}`]
  return ['error', `Linux ${found} is too old: ${KERNEL.join('.')} or newer is needed. Upgrade the system.`]
}

function init({ systemd }: HostFacts): Judgement {
  return systemd === undefined
    ? ['ok', 'No systemd: an init script and howdah-supervise keep the agent running.']
    : ['ok', `systemd ${systemd}`]
}

function unpacking({ programs }: HostFacts): Judgement[] {
  const missing = UNPACKING.filter((program) => !programs.has(program))
  return missing.length === 0
    ? []
    : [['error', `${missing.join(', ')} must be installed to unpack the bundle.`]]
}

function fuse({ fuse: device, programs }: HostFacts): Judgement[] {
  if (device === 'missing')
    return [
      [
        'error',
        '/dev/fuse is missing. Load the kernel module ("modprobe fuse", and a line "fuse" in /etc/modules-load.d/fuse.conf); in a container, pass the device in.',
      ],
    ]
  if (device === 'closed')
    return [['error', '/dev/fuse cannot be opened: allow the device in the container or virtual machine.']]
  const helper = programs.get('fusermount3') ?? programs.get('fusermount')
  return [
    [
      'ok',
      `/dev/fuse is usable${helper === undefined ? '; without fusermount (package fuse3) only by an agent that runs as root' : `, and ${helper} is there`}`,
    ],
  ]
}

function isolation({ programs, hasCgroup2 }: HostFacts): Judgement[] {
  const missing = ISOLATION.filter((program) => !programs.has(program))
  const judgements: Judgement[] = []
  if (missing.length > 0)
    judgements.push([
      'error',
      `${missing.join(', ')} of util-linux must be installed: without them instances are not kept apart from the server.`,
    ])
  if (!programs.has('nft'))
    judgements.push([
      'error',
      'nft is missing, so instances cannot be kept off the network. Install nftables, or set isolation.network to false.',
    ])
  if (!hasCgroup2)
    judgements.push([
      'error',
      'There is no control group hierarchy of version 2, so instances cannot be kept off the network. Boot with systemd.unified_cgroup_hierarchy=1, or set isolation.network to false.',
    ])
  return judgements.length === 0
    ? [['ok', 'Instances can be kept apart: util-linux, nftables and cgroup 2 are there.']]
    : judgements
}

function postgres({ postgres: found, users }: HostFacts): Judgement[] {
  const judgements: Judgement[] = [
    found.length === 0
      ? [
          'warning',
          'PostgreSQL is not installed. A backup is published with its own major version: install that (apt: postgresql-NN; dnf, from PGDG: postgresqlNN-server).',
        ]
      : ['ok', `PostgreSQL ${found.map(({ version }) => version).join(', ')}`],
  ]
  if (!users.has('postgres'))
    judgements.push([
      'warning',
      'There is no user "postgres", which instances run as unless the configuration (postgres.user) or a publish names another.',
    ])
  return judgements
}

function room({ spaces }: HostFacts, neededBytes: number, isTarget: boolean): Judgement[] {
  const free = (path: string): number | undefined => spaces.find((space) => space.path === path)?.freeBytes
  const opt = free('/opt')
  const cache = free('/var/tmp')
  const judgements: Judgement[] = []
  if (opt !== undefined && opt < neededBytes)
    judgements.push([
      'error',
      `/opt has ${formatBytes(opt)} free, and an installation takes ${formatBytes(neededBytes)}. Make room there.`,
    ])
  else if (opt !== undefined) judgements.push(['ok', `/opt has ${formatBytes(opt)} free.`])
  if (isTarget && cache !== undefined && cache < CACHE_BYTES)
    judgements.push([
      'warning',
      `/var/tmp has ${formatBytes(cache)} free, and a session wants ${formatBytes(CACHE_BYTES)} for its write cache. Make room, or set cacheRoot.`,
    ])
  else if (isTarget && cache !== undefined)
    judgements.push(['ok', `/var/tmp has ${formatBytes(cache)} free for write caches.`])
  return judgements
}

function mountOptions({ spaces }: HostFacts): Judgement[] {
  return spaces.flatMap(({ path, mountOptions: options }): Judgement[] => {
    if (options.includes('ro')) return [['error', `${path} is mounted read-only. Mount it rw.`]]
    if (path === '/opt' && options.includes('noexec'))
      return [
        [
          'error',
          'What lies in /opt may not be run (noexec). Mount it exec, or put /opt/howdah on another file system.',
        ],
      ]
    return []
  })
}

function clock({ clockOffsetMs, clockErrorMs }: Circumstances): Judgement {
  const certain = Math.max(0, Math.abs(clockOffsetMs) - clockErrorMs)
  const shown = `${(Math.abs(clockOffsetMs) / 1000).toFixed(clockErrorMs < 500 ? 1 : 0)} s ${clockOffsetMs < 0 ? 'behind' : 'ahead of'} this machine's`
  if (certain < CLOCK_WARNING_MS)
    return [
      'ok',
      `The clock is right, within ${((Math.abs(clockOffsetMs) + clockErrorMs) / 1000).toFixed(1)} s.`,
    ]
  if (certain < CLOCK_ERROR_MS)
    return [
      'warning',
      `The clock is ${shown}: times of sessions will mislead. Run an NTP service (chrony, systemd-timesyncd) on both.`,
    ]
  return [
    'error',
    `The clock is ${shown}: certificates count as expired or not valid yet. Set it, and run an NTP service (chrony, systemd-timesyncd).`,
  ]
}

function accessControl({ selinux, apparmor }: HostFacts): Judgement[] {
  if (selinux === 'enforcing')
    return [
      [
        'warning',
        'SELinux is enforcing. Howdah ships no policy: programs in /opt/howdah run unconfined as a service (bin_t, as "restorecon -R /opt/howdah" sets it); see the audit log when something is denied.',
      ],
    ]
  return [['ok', `SELinux is ${selinux}${apparmor ? ', AppArmor is on and has no profile for Howdah' : ''}.`]]
}

function reach({ host, port, reached, reason }: Reach): Judgement {
  const where = `${host}:${port}`
  if (reached === undefined)
    return [
      'warning',
      `Whether ${where} can be reached from there could not be tried: neither Python, bash with timeout, Perl nor nc is installed.`,
    ]
  if (reached) return ['ok', `${where} can be reached from there.`]
  return [
    'error',
    `${where} cannot be reached from there (${reason === '' ? 'no answer' : reason}). Look at names, routes and firewalls between the two.`,
  ]
}

function installed({ installed: version, agents, package: packaged }: HostFacts): Judgement[] {
  const shown = agents.map(
    ({ kind, name }) => `the ${kind} agent ${name === '' ? '(name unreadable)' : `"${name}"`}`,
  )
  const judgements: Judgement[] = []
  if (packaged !== undefined)
    judgements.push([
      'error',
      `Howdah ${packaged} came by the Debian package. Use apt for it ("apt install howdah"), or remove it first.`,
    ])
  if (version !== undefined || shown.length > 0)
    judgements.push([
      'ok',
      `Howdah ${version ?? '(no version)'} is installed${shown.length === 0 ? '' : `, with ${shown.join(' and ')}`}.`,
    ])
  return judgements.length > 0 ? judgements : [['ok', 'Nothing of Howdah is there yet.']]
}

function isAtLeast(text: string, [major, minor]: readonly [number, number]): boolean {
  const [, foundMajor = 0, foundMinor = 0] = (/^(\d+)\.(\d+)/.exec(text) ?? []).map(Number)
  return foundMajor > major || (foundMajor === major && foundMinor >= minor)
}
