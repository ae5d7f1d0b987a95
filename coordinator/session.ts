/** A session as the coordinator keeps it: the desired state, the observed state, and the step in progress. */
import type { ErrorBody } from '../messages/errors.ts'
import type { ExportView } from '../messages/exports.ts'
import type { Labels } from '../messages/labels.ts'
import type { StepInput, StepResult } from '../messages/steps.ts'
import {
  type Changes,
  type PublishStep,
  type Reachability,
  type RecoverTo,
  type SessionState,
  type SpaceWarning,
  STEPS,
  type StepName,
  type StepReport,
  type Usage,
} from '../messages/values.ts'

export interface Session {
  readonly id: string
  /** Incremented by every save; a save based on an older version is refused, so that coordinators cannot overwrite each other. */
  version: number
  /** What should be. The planner works out the next step from this and `results`. */
  desired: 'published' | 'absent'
  /** Follows from the rest (see planner.ts); kept for queries and events. */
  state: SessionState
  request: SessionRequest
  /** A republish in place: the request to begin anew with once the teardown is complete. */
  next?: SessionRequest | undefined
  /** The mount agent that serves the repository. */
  readonly mountAgent: string
  /** The observed state: the results of the steps that are in effect. A result is removed when its step is undone or lost. */
  results: StepResults
  /** Steps that were begun and not undone, in their order: what a teardown must undo. */
  begun: StepName[]
  /** The step that was sent to an agent and has not ended. */
  current?: CurrentStep | undefined
  /** Counts every step command of this session, so that each has a number of its own. */
  sequence: number
  /** Consecutive failures of the present step, or of `stepToRetry`. */
  failures: number
  /** The failed step for which earlier ones, in effect no longer, are repeated. */
  stepToRetry?: StepName | undefined
  /** The failed step is retried at this time, not earlier. */
  retryAt?: string | undefined
  /** It waits for a retry by an operator: its attempts are used up, or automatic resume is off. */
  awaitsRetry?: boolean | undefined
  /** Once true, failures never lead to a teardown: the write cache may hold changes. */
  everPublished: boolean
  /** Why the session is disrupted or failed. */
  error?: ErrorBody | undefined
  /** The error that ended the publish: the session becomes `failed`, not `closed`, when the teardown is complete. */
  failure?: ErrorBody | undefined
  usage?: Usage | undefined
  steps: StepReport[]
  warnings: string[]
  /** Warnings of space and expiry raised and cleared, oldest first; bounded. */
  warningHistory?: SpaceWarning[] | undefined
  undone: string[]
  /** The paused recovery to return to when the agent refuses the target of an advance. */
  pausedRecovery?:
    | {
        readonly recoverTo: RecoverTo
        readonly resolve?: StepResult<'resolve'> | undefined
        readonly recover: StepResult<'recover'>
      }
    | undefined
  /** The teardown keeps the write cache for a later retry. */
  keepCache?: boolean | undefined
  /** When it is unpublished, and when that was set: warnings depend on the share of the time that has passed. */
  expires?: { readonly at: string; readonly setAt: string } | undefined
  changes?: Changes | undefined
  reachability?: Reachability | undefined
  /** Oldest first. */
  exports?: ExportJob[] | undefined
  /** It was published for its export alone, and is unpublished when that has ended. */
  exportOnly?: boolean | undefined
  /** What clients noted on it. Without empty values. */
  reference?: string | undefined
  labels?: Labels | undefined
  /** `message_id` of the command that made it. */
  messageId?: string | undefined
  /** Number of the latest entry of its history. */
  historyLength?: number | undefined
  readonly createdAt: string
  updatedAt: string
}

/** `cancelled`: a client cancelled it, and its agent must undo it. */
export type ExportJob = ExportView & { cancelled?: boolean | undefined }

/** `heardAt`: when the command was sent, or its agent last reported on it. */
export type CurrentStep = StepReport & { heardAt: string }

export type SessionRequest = Pick<
  StepInput,
  'repository' | 'instance' | 'backup' | 'recoverTo' | 'target' | 'options'
>

/** Of the steps of publishing; the result of an export is in its `ExportJob`. */
export type StepResults = { [S in PublishStep]?: StepResult<S> | undefined }

/** Whether nothing of it remains on any machine, so that it may be pruned. A closed session with its changes kept is not settled. */
export function isSettled({ state, keepCache }: Session): boolean {
  return (state === 'closed' || state === 'failed') && !keepCache
}

export function resetFailures(session: Session): void {
  session.failures = 0
  session.stepToRetry = undefined
}

/** Removes the results of a step that is in effect no longer, and of all after it. */
export function dropResults(session: Session, step: PublishStep): void {
  for (const name of STEPS.slice(STEPS.indexOf(step))) session.results[name] = undefined
}

/** Texts that one session keeps at most, of warnings and of what was undone: the newest. */
const MAX_TEXTS = 200

/** Adds those that the session does not have yet. */
export function addWarnings(session: Session, warnings: readonly string[]): void {
  const added = warnings.filter((warning) => !session.warnings.includes(warning))
  if (added.length > 0) session.warnings = [...session.warnings, ...added].slice(-MAX_TEXTS)
}

/** Adds what the undo of a step removed. */
export function addUndone(session: Session, undone: readonly string[]): void {
  session.undone = [...session.undone, ...undone].slice(-MAX_TEXTS)
}

export function newSession(id: string, request: SessionRequest, mountAgent: string, now: string): Session {
  return {
    id,
    version: 0,
    desired: 'published',
    state: 'validating',
    request,
    mountAgent,
    results: {},
    begun: [],
    sequence: 0,
    failures: 0,
    everPublished: false,
    steps: [],
    warnings: [],
    undone: [],
    createdAt: now,
    updatedAt: now,
  }
}
