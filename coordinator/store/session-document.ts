/**
 * A session as both stores keep it: one JSON document. Its keys never change, so that coordinators of different versions
 * can share a store; a field that was renamed in the code keeps its key here.
 */
import type { Session } from '../session.ts'

type RenamedFields = Pick<Session, 'exportOnly' | 'stepToRetry' | 'pausedRecovery'>

interface RenamedKeys {
  readonly errand?: RenamedFields['exportOnly']
  readonly redoneFor?: RenamedFields['stepToRetry']
  readonly standing?: RenamedFields['pausedRecovery']
}

export type SessionDocument = Omit<Session, keyof RenamedFields> & RenamedKeys

/** A field without a value is left out. */
export function toDocument(session: Session): SessionDocument {
  const { exportOnly, stepToRetry, pausedRecovery, ...rest } = session
  return {
    ...rest,
    ...(exportOnly !== undefined && { errand: exportOnly }),
    ...(stepToRetry !== undefined && { redoneFor: stepToRetry }),
    ...(pausedRecovery !== undefined && { standing: pausedRecovery }),
  }
}

export function fromDocument(document: SessionDocument): Session {
  const { errand, redoneFor, standing, ...rest } = document
  return {
    ...rest,
    ...(errand !== undefined && { exportOnly: errand }),
    ...(redoneFor !== undefined && { stepToRetry: redoneFor }),
    ...(standing !== undefined && { pausedRecovery: standing }),
  }
}
