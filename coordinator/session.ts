/** A session as the coordinator keeps it: what was asked for, what was observed, and the step under way. */
import type { ErrorBody } from '../messages/errors.ts'
import type { ExportView } from '../messages/exports.ts'
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
  /** Raised by every save; a save on an older version is refused, so two coordinators cannot overwrite each other. */
  version: number
  /** What should be. The planner works out the next step from this and `results`. */
  desired: 'published' | 'absent'
  /** Follows from the rest (see planner.ts); kept for queries and events. */
  state: SessionState
  request: SessionRequest
  /** With what it begins again once everything is taken back: a republish in its place. */
  next?: SessionRequest | undefined
  /** The mount agent that serves the repository. */
  readonly mountAgent: string
  /** What is: the results of the steps that are in effect. A step is taken out when it is undone or lost. */
  results: StepResults
  /** Steps that were begun and not undone, in their order: what a clean-up must take back. */
  begun: StepName[]
  /** The step that an agent was told to do and has not finished. */
  current?: CurrentStep | undefined
  /** Counts every step command of this session, so that each has a number of its own. */
  sequence: number
  /** Failures in a row of the present step, or of `redoneFor`. */
  failures: number
  /** The step that failed because earlier ones were in effect no longer, which are done again for it. */
  redoneFor?: StepName | undefined
  /** Not before this time is the failed step tried again. */
  retryAt?: string | undefined
  /** It does not go on by itself: its attempts are used up, or automatic resume is off. */
  awaitsRetry?: boolean | undefined
  /** Once true, failures never lead to a clean-up: the write cache holds somebody's changes. */
  everPublished: boolean
  /** Why the session is disrupted or failed. */
  error?: ErrorBody | undefined
  /** The error that ended the publishing: the session becomes `failed`, not `closed`, when all is taken back. */
  failure?: ErrorBody | undefined
  usage?: Usage | undefined
  steps: StepReport[]
  warnings: string[]
  /** Room that ran out or came back, oldest first; bounded. Missing: none ever did. */
  warningHistory?: SpaceWarning[] | undefined
  undone: string[]
  /** What a recovery that is being moved forward returns to when its agent refuses the new target. */
  standing?:
    | {
        readonly recoverTo: RecoverTo
        readonly resolve?: StepResult<'resolve'> | undefined
        readonly recover: StepResult<'recover'>
      }
    | undefined
  /** The clean-up leaves the write cache, for a later retry. */
  keepCache?: boolean | undefined
  /** When it is to be unpublished, and when somebody said so: warnings go by the share of the time that is left. */
  expires?: { readonly at: string; readonly setAt: string } | undefined
  changes?: Changes | undefined
  reachability?: Reachability | undefined
  /** Oldest first. */
  exports?: ExportJob[] | undefined
  /** It was published for its export alone, and goes when that has ended. */
  errand?: boolean | undefined
  /** Number of the latest entry of its history. */
  historyLength?: number | undefined
  readonly createdAt: string
  updatedAt: string
}

/** `cancelled`: somebody wants it stopped, and its agent is to be told. */
export type ExportJob = ExportView & { cancelled?: boolean | undefined }

/** `heardAt`: when the command was sent, or its agent last reported on it. */
export type CurrentStep = StepReport & { heardAt: string }

export type SessionRequest = Pick<
  StepInput,
  'repository' | 'instance' | 'backup' | 'recoverTo' | 'target' | 'options'
>

/** Of the steps of publishing; what an export gave is with the export. */
export type StepResults = { [S in PublishStep]?: StepResult<S> | undefined }

/** Nothing is left of it on any machine, so it may be forgotten. One that was closed with its changes kept is not settled. */
export function isSettled({ state, keepCache }: Session): boolean {
  return (state === 'closed' || state === 'failed') && !keepCache
}

export function endFailures(session: Session): void {
  session.failures = 0
  session.redoneFor = undefined
}

/** The step is in effect no longer, nor is any after it. */
export function dropResults(session: Session, step: PublishStep): void {
  for (const gone of STEPS.slice(STEPS.indexOf(step))) session.results[gone] = undefined
}

/** Adds those that the session does not have yet. */
export function addWarnings(session: Session, warnings: readonly string[]): void {
  session.warnings.push(...warnings.filter((warning) => !session.warnings.includes(warning)))
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
