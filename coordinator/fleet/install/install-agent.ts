/**
 * An installation as a list of steps, each safe to repeat: what was done already is found done. A failure says what state
 * the host is in; the same command goes on from there.
 */
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import { formatBytes } from '../../../messages/format-bytes.ts'
import type { AgentView } from '../../../messages/values.ts'
import { pause } from '../../../messages/wait.ts'
import type { AgentKind } from '../host/host-paths.ts'
import type { RootShell } from '../ssh/elevation.ts'
import type { Bundle } from './bundle.ts'
import type { HostFacts } from './host-facts.ts'
import { type Changes, type HostPrograms, hostPrograms } from './host-programs.ts'
import { PROGRAMS, unpackBundle, uploadBundle, uploadedText } from './upload.ts'

export interface AgentRequest {
  readonly kind: AgentKind
  readonly name: string
  /** URLs of the broker for the agent, without a password: its certificate says who it is. */
  readonly brokers: readonly string[]
  /** Of a mount agent: where target servers reach it. */
  readonly advertise: string | undefined
  /** Of a mount agent: `NAME=FORMAT:PATH`. */
  readonly repositories: readonly string[]
}

/** What the coordinator does for an installation. */
export interface Fleet {
  certify(request: {
    kind: AgentKind
    name: string
    csr: string
    addresses?: string[]
  }): Promise<{ certificate: string; ca: string }>
  /** Undefined: no such agent ever registered. */
  agent(kind: AgentKind, name: string): Promise<AgentView | undefined>
}

export interface Installation {
  /** Of the host, as `user@host`. */
  readonly host: string
  readonly root: RootShell
  readonly facts: HostFacts
  readonly bundle: Bundle
  readonly request: AgentRequest
  readonly fleet: Fleet
  readonly narrator: Narrator
  readonly signal: AbortSignal
  /** Milliseconds until an agent that was started must be online. */
  readonly onlineMs: number
}

export interface Narrator {
  /** A step begins. */
  begin(step: StepName, text: string): void
  progress(text: string): void
  /** It ended; `changed` says whether it found something to do. */
  end(text: string, changed: boolean): void
}

export type StepName = 'upload' | 'unpack' | 'setup' | 'certificate' | 'switch' | 'start' | 'online'

interface Step {
  readonly name: StepName
  readonly plan: (installation: Installation) => string
  /** The state of the host if it fails, as a sentence. */
  readonly state: (installation: Installation) => string
  readonly run: (installation: Installation, work: Work) => Promise<Done>
}

interface Done {
  readonly text: string
  readonly changed: boolean
}

interface Work {
  readonly programs: HostPrograms
  /** As the coordinator knew the agent before the installation. */
  readonly before: AgentView | undefined
  /** Whether the agent was started by a step. */
  restarted: boolean
}

const POLL_MS = 1_000

const isUnpacked = ({ facts, bundle }: Installation): boolean => facts.versions.includes(bundle.version)
const unchanged = ({ facts, bundle }: Installation): string =>
  facts.installed === undefined
    ? 'nothing runs there'
    : `${facts.installed === bundle.version ? 'the version' : facts.installed} goes on there`

const STEPS: readonly Step[] = [
  {
    name: 'upload',
    plan: ({ bundle, host }) =>
      `upload ${bundle.file} (${formatBytes(bundle.bytes)}) to ${PROGRAMS} on ${host}`,
    state: (one) => `A part of the bundle may be in ${PROGRAMS}, ${unchanged(one)}.`,
    async run(one) {
      if (isUnpacked(one)) return { text: `${one.bundle.version} is there`, changed: false }
      const { root, bundle, host: name, narrator, signal } = one
      const progress = (done: number): void => narrator.progress(uploadedText(done, bundle))
      const changed = await uploadBundle({ root, bundle, name, progress, signal })
      return { text: changed ? `sent ${formatBytes(bundle.bytes)}` : 'was there', changed }
    },
  },
  {
    name: 'unpack',
    plan: ({ bundle }) => `check its SHA-256 there and unpack it to ${PROGRAMS}/${bundle.version}`,
    state: (one) => `The bundle is in ${PROGRAMS}, not unpacked; ${unchanged(one)}.`,
    async run(one) {
      if (isUnpacked(one)) return { text: `${PROGRAMS}/${one.bundle.version}`, changed: false }
      await unpackBundle({ ...one, name: one.host })
      return { text: `${PROGRAMS}/${one.bundle.version}`, changed: true }
    },
  },
  {
    name: 'setup',
    plan: ({ facts }) =>
      `set up system user, directories, ${facts.systemd === undefined ? 'init script' : 'systemd unit'} and, where there is none, configuration`,
    state: (one) =>
      `${PROGRAMS}/${one.bundle.version} is unpacked, and user, directories or service may be incomplete; ${unchanged(one)}.`,
    async run({ request }, { programs }) {
      const { changed } = await programs.run<Changes>('setup', setupArguments(request))
      return {
        text: changed.length === 0 ? 'as it should be' : changed.join(', '),
        changed: changed.length > 0,
      }
    },
  },
  {
    name: 'certificate',
    plan: ({ request }) =>
      `make a key there and have the coordinator sign its certificate as ${request.kind} agent "${request.name}", with a user of the broker`,
    state: () => 'The host is set up, and the agent has no new certificate and was not started.',
    async run(one, { programs, before }) {
      const { request, facts, fleet } = one
      const isThere = facts.agents.some(({ kind, name }) => kind === request.kind && name === request.name)
      // An agent that is online renews its certificate itself.
      if (isThere && before?.online === true) return { text: 'in use', changed: false }
      const addresses = request.advertise === undefined ? [] : [request.advertise]
      const arguments_ = [
        '--kind',
        request.kind,
        '--name',
        request.name,
        ...addresses.flatMap((address) => ['--address', address]),
      ]
      const { csr } = await programs.run<{ csr: string }>('request', arguments_)
      const signed = await fleet.certify({
        kind: request.kind,
        name: request.name,
        csr,
        ...(addresses.length > 0 && { addresses }),
      })
      const input = JSON.stringify({ certificate: signed.certificate, ca: signed.ca })
      await programs.run('accept', ['--kind', request.kind], input)
      return { text: 'signed by the coordinator', changed: true }
    },
  },
  {
    name: 'switch',
    plan: ({ bundle, facts }) =>
      `make ${bundle.version} the current version${facts.installed === undefined ? '' : ` instead of ${facts.installed}; published instances stay up`}`,
    state: () => `The host is set up; which version is current says "howdah agent status" there.`,
    // Also where it is current already: a switch that was cut off may not have restarted the agent.
    async run({ bundle, facts }, work) {
      if (facts.installed === undefined) return { text: bundle.version, changed: false }
      const { changed } = await work.programs.run<Changes>('switch', [bundle.version])
      work.restarted = changed.length > 0
      if (changed.length === 0) return { text: bundle.version, changed: false }
      return { text: `${facts.installed} → ${bundle.version}`, changed: true }
    },
  },
  {
    name: 'start',
    plan: () => 'start the agent, now and at each boot',
    // What was begun there goes on when the connection is cut.
    state: () => `Everything is installed; whether the agent runs says "howdah agent status" there.`,
    async run({ request }, work) {
      const { changed } = await work.programs.run<Changes>('start', ['--kind', request.kind])
      work.restarted ||= changed.length > 0
      return { text: changed.length > 0 ? 'started' : 'runs', changed: changed.length > 0 }
    },
  },
  {
    name: 'online',
    plan: () => 'wait until the coordinator hears of it',
    state: () =>
      'Everything is installed and the agent was started, and the coordinator has not heard of it.',
    async run(one, { before, restarted }) {
      const view = await untilOnline(one, restarted ? before?.instance : undefined)
      return { text: `${view.kind} agent "${view.name}" ${view.version} on ${view.host}`, changed: false }
    },
  },
]

/** What would be done, one line a step. */
export function planOf(installation: Pick<Installation, 'facts' | 'bundle' | 'host' | 'request'>): string[] {
  return STEPS.map(({ plan }) => plan(installation as Installation))
}

export interface Installed {
  /** Steps that found something to do. */
  readonly changed: readonly StepName[]
  readonly agent: AgentView
}

/** @throws HowdahError of the step that failed, with the state of the host */
export async function installAgent(installation: Installation): Promise<Installed> {
  const { host, root, bundle, request, fleet, narrator, signal } = installation
  const before = await fleet.agent(request.kind, request.name)
  refuseTaken(installation, before)
  const work: Work = { before, restarted: false, programs: hostPrograms(root, bundle.version, host, signal) }
  const changed: StepName[] = []
  for (const step of STEPS) {
    narrator.begin(step.name, step.plan(installation))
    try {
      const done = await step.run(installation, work)
      narrator.end(done.text, done.changed)
      if (done.changed) changed.push(step.name)
    } catch (error) {
      // By the operator. A --timeout that is over is a failure like others.
      if (signal.aborted && !(signal.reason instanceof HowdahError)) throw signal.reason
      const body = errorBody(signal.aborted ? signal.reason : error)
      const remedy = `${step.state(installation)} The same command goes on from there.`
      throw new HowdahError(body.code, `${step.name}: ${body.message.replace(/\.?$/, '.')} ${remedy}`, {
        cause: error,
        retryable: body.retryable,
      })
    }
  }
  const agent = await fleet.agent(request.kind, request.name)
  if (agent === undefined)
    throw new HowdahError(
      'unknown_agent',
      `the coordinator forgot the ${request.kind} agent "${request.name}"`,
    )
  return { changed, agent }
}

/** The name must not be that of an agent which is online on another host: it would be shut out. */
function refuseTaken({ facts, request, host }: Installation, before: AgentView | undefined): void {
  const isHere = facts.agents.some(
    ({ kind, name }) => kind === request.kind && (name === request.name || name === ''),
  )
  if (before?.online === true && !isHere)
    throw new HowdahError(
      'agent_in_use',
      `the ${request.kind} agent "${request.name}" is online already, on ${before.host}. Choose another --name for ${host}, or uninstall that one first.`,
    )
}

function setupArguments({ kind, name, brokers, advertise, repositories }: AgentRequest): string[] {
  return [
    ...['--kind', kind, '--name', name, '--broker', brokers.join(',')],
    ...(advertise === undefined ? [] : ['--advertise', advertise]),
    ...repositories.flatMap((repository) => ['--repository', repository]),
  ]
}

/** @param instanceBefore the process that must not be taken for the new one */
export async function untilOnline(
  {
    fleet,
    request,
    bundle,
    root,
    onlineMs,
    signal,
  }: Pick<Installation, 'fleet' | 'request' | 'root' | 'onlineMs' | 'signal'> & {
    readonly bundle: Pick<Bundle, 'version'>
  },
  instanceBefore: string | undefined,
): Promise<AgentView> {
  const deadline = Date.now() + onlineMs
  for (;;) {
    signal.throwIfAborted()
    const view = await fleet.agent(request.kind, request.name)
    const isNew = instanceBefore === undefined || view?.instance !== instanceBefore
    if (view?.online === true && view.version === bundle.version && isNew) return view
    if (Date.now() > deadline) {
      const said = await lastLog(root, request.kind, signal)
      const seen = view?.online === true && isNew ? ` It is online with version ${view.version}.` : ''
      throw new HowdahError(
        'timeout',
        `the agent was not online after ${onlineMs / 1000} s.${seen} Its log there ends with: ${said}`,
      )
    }
    await pause(POLL_MS, signal)
  }
}

/** The end of the agent's log on its host, by whatever keeps it. */
async function lastLog(root: RootShell, kind: AgentKind, signal: AbortSignal): Promise<string> {
  const script = `if [ -f /var/log/howdah/${kind}-agent.log ]; then tail -n 5 /var/log/howdah/${kind}-agent.log
elif command -v journalctl >/dev/null; then journalctl -u howdah-${kind}-agent -n 5 --no-pager -o cat; fi`
  try {
    const { stdout } = await root.run(script, { signal, deadlineMs: 30_000 })
    return stdout.trim() || 'nothing'
  } catch (error) {
    return `(it cannot be read: ${(error as Error).message})`
  }
}
