/** The inputs of preflight: the request, the target's settings, and the lookups that all checks share. */

import type { AllowConfig } from '../../../config/schema.ts'
import type { ErrorBody } from '../../../messages/errors.ts'
import type { StepInput } from '../../../messages/steps.ts'
import type { SystemUser } from '../postgres/specification.ts'

export interface PreflightSettings {
  /** Directory of the mount points, one for each session, of its name. Absolute. */
  readonly mountRoot: string
  /** Directory of the write caches, likewise. */
  readonly cacheRoot: string
  /** The user that runs instances, unless the request names one. */
  readonly defaultUser: string
  /** What requests may ask for beyond the defaults. */
  readonly allow: AllowConfig
  /** First and last port to choose from, unless the request names one. */
  readonly portRange: readonly [number, number]
  /** Directories to search for executables; `%v` is replaced by the major version. The first one with them is used. */
  readonly binaryDirectories: readonly string[]
  /** Space that must stay free whatever the write cache needs; bytes. */
  readonly reserveBytes: number
  /** Minimum of the estimated size of a write cache; bytes. */
  readonly minimumFreeBytes: number
}

export interface PreflightRequest {
  readonly session: string
  readonly input: StepInput
  readonly settings: PreflightSettings
  /** Ports of other sessions of this target. */
  readonly reservedPorts?: ReadonlySet<number>
  readonly signal?: AbortSignal
}

/** The finding of a check: an error, which prevents the publish, unless its level is `warning`. */
export interface Finding extends ErrorBody {
  readonly level?: 'warning'
}

/** The shared lookups, each made once. A failed one has findings, which its own check reports. */
export interface PreflightContext {
  readonly request: PreflightRequest
  readonly mountPoint: string
  readonly cachePath: string
  readonly user: () => Promise<Lookup<SystemUser>>
  readonly binaries: () => Promise<Lookup<string>>
  readonly port: () => Promise<Lookup<number>>
}

/** The value of a lookup, or the findings why there is none. */
export type Lookup<T> =
  | { readonly value: T; readonly findings?: undefined }
  | { readonly value?: undefined; readonly findings: Finding[] }
