/** The programs of Howdah on a host, `howdah agent …`, as they are run there over SSH. */
import { HowdahError } from '../../../messages/errors.ts'
import type { AgentKind } from '../host/host-paths.ts'
import type { RootShell } from '../ssh/elevation.ts'
import { PROGRAMS } from './upload.ts'

/** What a program did, and what it found as it should be. */
export interface Changes {
  readonly changed: readonly string[]
  readonly kept: readonly string[]
}

export interface HostStatus {
  readonly agents: readonly { readonly kind: AgentKind; readonly state: string; readonly version?: string }[]
  readonly current?: string
  readonly previous?: string
}

export interface HostPrograms {
  /** Runs an action with `--json`. @throws HowdahError as the program says */
  run<T>(action: string, args?: readonly string[], input?: string): Promise<T>
}

const DEADLINE_MS = 180_000

/** @param version a directory in /opt/howdah, or `current` */
export function hostPrograms(
  root: RootShell,
  version: string,
  name: string,
  signal: AbortSignal,
): HostPrograms {
  return {
    async run<T>(action: string, args: readonly string[] = [], input = '') {
      const words = ['agent', action, ...args, '--json'].map(quoted).join(' ')
      const script = `exec ${quoted(`${PROGRAMS}/${version}/bin/howdah`)} ${words}`
      const done = await root.run(script, { input, signal, deadlineMs: DEADLINE_MS })
      const document = parse(done.stdout) as { error?: { message?: string } } | undefined
      if (document !== undefined && document.error === undefined) return document as T
      const said =
        document?.error?.message ?? (done.stderr.trim().split('\n').slice(-3).join('; ') || 'it said nothing')
      throw new HowdahError('operation_failed', `"howdah agent ${action}" failed on ${name}: ${said}`)
    },
  }
}

/** As one word for the shell. */
export function quoted(word: string): string {
  return /^[\w./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

function parse(text: string): object | undefined {
  try {
    return JSON.parse(text) as object
  } catch {
    return undefined
  }
}
