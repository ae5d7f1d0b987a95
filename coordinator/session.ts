/** A session as the coordinator keeps it: what was asked for, what was observed, and the step under way. */
import type { ErrorBody } from '../messages/errors.ts'
import type { StepInput, StepResult } from '../messages/steps.ts'
import type { SpaceWarning, Usage } from '../messages/values.ts'
import {
  type SessionState,
  type SessionView,
  STEPS,
  type StepName,
  type StepReport,
} from '../messages/values.ts'
import { standingWarnings } from './space-warnings.ts'

export interface Session {
  readonly id: string
  /** Raised by every save; a save on an older version is refused, so two coordinators cannot overwrite each other. */
  version: number
  /** What should be. The planner works out the next step from this and `results`. */
  desired: 'published' | 'absent'
  /** Follows from the rest (see planner.ts); kept for queries and events. */
  state: SessionState
  readonly request: SessionRequest
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
  /** Failures of the present step in a row. */
  failures: number
  /** Not before this time is the failed step tried again. */
  retryAt?: string | undefined
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
  readonly createdAt: string
  updatedAt: string
}

/** `heardAt`: when the command was sent, or its agent last reported on it. */
export type CurrentStep = StepReport & { heardAt: string }

export type SessionRequest = Pick<
  StepInput,
  'repository' | 'instance' | 'backup' | 'recoverTo' | 'target' | 'options'
>

export type StepResults = { [S in StepName]?: StepResult<S> | undefined }

/** Which agent a step is for. */
export function stepAgent(session: Session, step: StepName): { kind: 'mount' | 'target'; name: string } {
  return step === 'resolve'
    ? { kind: 'mount', name: session.mountAgent }
    : { kind: 'target', name: session.request.target }
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

/** What the step's agent needs: the request and the results of the steps before. */
export function stepInput(session: Session): StepInput {
  return {
    ...session.request,
    ...(session.results.resolve && { resolved: session.results.resolve }),
    ...(session.results.preflight && { checked: session.results.preflight }),
    ...(session.results.mount && { mounted: session.results.mount }),
  }
}

/** What clients see. */
export function sessionView(session: Session): SessionView {
  const { results, request } = session
  const places = results.mount ?? results.preflight
  const gone = session.state === 'closed' || session.state === 'failed'
  const step = session.current?.step ?? STEPS.find((name) => results[name] === undefined)
  return {
    id: session.id,
    state: session.state,
    ...(step !== undefined && !gone && session.state !== 'published' && { step }),
    repository: request.repository,
    instance: request.instance,
    backup: results.resolve?.backup.label ?? request.backup,
    recoverTo: request.recoverTo,
    target: request.target,
    createdAt: session.createdAt,
    updatedAt: session.updatedAt,
    ...(results.recover && { connection: results.recover.connection }),
    ...(places &&
      !gone && {
        mountPoint: places.mountPoint,
        writeCache: { path: places.cachePath, bytes: session.usage?.cacheBytes ?? 0 },
      }),
    ...(session.usage && { usage: session.usage }),
    steps: session.current ? [...session.steps, stepReport(session.current)] : session.steps,
    ...((session.failure ?? session.error) && { error: session.failure ?? session.error }),
    warnings: gone
      ? session.warnings
      : [
          ...session.warnings,
          ...standingWarnings(session.warningHistory ?? []).map(({ message }) => message),
        ],
    ...(session.warningHistory && { warningHistory: session.warningHistory }),
    ...(session.desired === 'absent' && { undone: session.undone }),
  }
}

function stepReport({ heardAt: _, ...report }: CurrentStep): StepReport {
  return report
}
