/**
 * The target's steps of a session, in the order in which the coordinator sends them: `preflight`, `mount`, `recover`, and
 * `export` at any later time. Owns nothing itself: each step has its file, and keeps its state on this machine, in the
 * write cache and in processes that outlive the agent. So every step may be run or undone any number of times, by any
 * agent process.
 */

import type { Credentials } from './export/destinations/credentials.ts'
import { exportStep } from './export/export-step.ts'
import { type MountStepOptions, mountStep } from './steps/mount-step.ts'
import { type PreflightStepOptions, preflightStep } from './steps/preflight-step.ts'
import { type RecoverStepOptions, recoverStep } from './steps/recover-step.ts'

export type TargetStepsOptions = Omit<PreflightStepOptions, 'cachePathOf'> &
  MountStepOptions &
  RecoverStepOptions & {
    /** How destinations of exports are entered, by name. */
    readonly credentials: Credentials
  }

export function targetSteps(options: TargetStepsOptions) {
  const { settings, changes, credentials, logger } = options
  const cachePathOf = (session: string): string => `${settings.cacheRoot}/${session}`
  return {
    preflight: preflightStep({ ...options, cachePathOf }),
    mount: mountStep(options),
    recover: recoverStep(options),
    export: exportStep({
      credentials,
      allow: settings.allow,
      changes,
      reserveBytes: settings.reserveBytes,
      cachePathOf,
      logger,
    }),
  }
}
