/** Looks at a host over its connection, and judges what an agent would find there. */
import { HowdahError } from '../../../messages/errors.ts'
import type { AgentKind } from '../host/host-paths.ts'
import type { SshConnection } from '../ssh/connection.ts'
import type { RootShell } from '../ssh/elevation.ts'
import { runScript } from '../ssh/remote-script.ts'
import { checkScript, REACH_SECONDS, type Reachable } from './check-script.ts'
import { type HostFacts, parseFacts } from './host-facts.ts'
import { findings, type HostFinding } from './host-findings.ts'

export interface HostReport {
  readonly facts: HostFacts
  readonly findings: readonly HostFinding[]
}

export interface HostCheckOptions {
  readonly connection: SshConnection
  /** Undefined: the login cannot become root, for that reason; then less is seen. */
  readonly root: RootShell | undefined
  readonly rootProblem: string
  readonly kind: AgentKind | undefined
  /** What an agent must reach from there. */
  readonly reach: readonly Reachable[]
  /** Room in /opt that an installation takes. */
  readonly neededBytes: number
  readonly now: () => Date
  readonly signal: AbortSignal
}

const DEADLINE_MS = 60_000

/** @throws HowdahError `operation_failed`: the script does not run there | as `runScript` */
export async function checkHost(options: HostCheckOptions): Promise<HostReport> {
  const { connection, root, rootProblem, kind, reach, neededBytes, now, signal } = options
  const running = { signal, deadlineMs: DEADLINE_MS + reach.length * REACH_SECONDS * 1000 }
  const run = (script: string) =>
    root === undefined ? runScript(connection, script, running) : root.run(script, running)
  const clock = await compareClocks(connection, now, running)
  const { stdout, stderr, status } = await run(checkScript(reach))
  const facts = parseFacts(stdout)
  if (facts === undefined)
    throw new HowdahError(
      'operation_failed',
      `the check did not run to its end on ${connection.name} (status ${status}): ${stderr || 'it said nothing'}`,
    )
  const how = root === undefined ? { problem: rootProblem } : { how: root.how }
  return { facts, findings: findings(facts, { ...clock, kind, neededBytes, root: how }) }
}

/** In a script of its own, since sudo may wait for a password: half of the round trip is what its clock may be off. */
async function compareClocks(
  connection: SshConnection,
  now: () => Date,
  running: { readonly signal: AbortSignal; readonly deadlineMs: number },
): Promise<{ clockOffsetMs: number; clockErrorMs: number }> {
  const script = 'now=$(date -u +%s.%N); case $now in *N*) now=$(date -u +%s) ;; esac; echo "$now"'
  const before = now().getTime()
  const { stdout } = await runScript(connection, script, running)
  const after = now().getTime()
  const text = stdout.split('\n')[0] ?? ''
  const isExact = text.includes('.')
  const remote = Number(text) * 1000 + (isExact ? 0 : 500)
  return {
    clockOffsetMs: remote - (before + after) / 2,
    clockErrorMs: (after - before) / 2 + (isExact ? 0 : 500),
  }
}
