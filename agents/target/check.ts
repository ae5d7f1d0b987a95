/** The query `target.check`: runs every check of a publish on this target, without a session, and leaves nothing behind. */
import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import type { AgentReply } from '../../messages/definitions.ts'
import type { Finding } from '../../messages/primitives.ts'
import type { StepInput } from '../../messages/steps.ts'
import { loadTouched, touchedBytes } from './filesystem/fetched/touched-record.ts'
import { type IsolationSupport, isolationWarnings } from './isolation/isolation.ts'
import { type KernelSupport, kernelFindings } from './preflight/kernel.ts'
import { estimate, inspect } from './preflight/preflight.ts'
import { removeRoot } from './preflight/roots.ts'
import type { Finding as PreflightFinding, PreflightSettings } from './preflight/settings.ts'
import { trialName, tryMount } from './trial-mount/trial-mount.ts'

export interface CheckOptions {
  readonly settings: PreflightSettings
  /** As in `TargetStepsOptions`. */
  readonly ports: ReadonlyMap<string, number>
  readonly support: IsolationSupport
  readonly kernel: KernelSupport
  /** Holds the records of the blocks that publishes have read. */
  readonly fetchedDirectory: string
  readonly logger: Logger
}

/** Codes of findings that a trial mount would only repeat. */
const OF_MOUNTS: ReadonlySet<string> = new Set([
  'path_unsafe',
  'user_unusable',
  'fuse_unusable',
  'file_system_unusable',
])

export async function checkTarget(
  input: StepInput,
  options: CheckOptions,
): Promise<AgentReply<'target.check'>> {
  const { settings, ports, support, kernel, fetchedDirectory, logger } = options
  const session = trialName(randomBytes(6).toString('hex'))
  try {
    const { findings: checked, user } = await inspect({
      session,
      input,
      settings,
      reservedPorts: new Set(ports.values()),
    })
    const findings = [...checked, ...kernelFindings(kernel)]
    // The finding of a check names the cause better than a mount that fails.
    const mountable = user && !findings.some(({ level, code }) => level !== 'warning' && OF_MOUNTS.has(code))
    const trial = mountable ? await tryMount({ session, ...settings }, user, logger) : []
    const touched = await loadTouched(fetchedDirectory, input.repository, input.instance)
    return {
      accepted: true,
      findings: [...findings, ...trial, ...isolationFindings(support)].map(asMessage),
      estimate: await estimate({ input, settings }, touched && touchedBytes(touched)),
    }
  } finally {
    if (ports.size === 0) {
      await removeRoot(settings.mountRoot)
      await removeRoot(settings.cacheRoot)
    }
  }
}

function isolationFindings(support: IsolationSupport): PreflightFinding[] {
  return isolationWarnings(support).map((message) => ({
    level: 'warning',
    code: 'isolation_missing',
    message,
  }))
}

function asMessage({ level, code, message, field }: PreflightFinding): Finding {
  return { level: level ?? 'error', code, message, ...(field !== undefined && { field }) }
}
