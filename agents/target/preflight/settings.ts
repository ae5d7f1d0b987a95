/** What preflight works from: the step's input, the target's settings, and what is looked up once for all checks. */

import type { ErrorBody } from '../../../messages/errors.ts'
import type { StepInput } from '../../../messages/steps.ts'
import type { SystemUser } from '../postgres/specification.ts'

export interface PreflightSettings {
  /** Directory of the mount points; each session has one of its name in it. Absolute. */
  readonly mountRoot: string
  /** Directory of the write caches, likewise. */
  readonly cacheRoot: string
  /** Who runs instances when the request does not say. */
  readonly defaultUser: string
  /** First and last port to choose from when the request names none. */
  readonly portRange: readonly [number, number]
  /** Where executables may be; `%v` stands for the major version. The first directory with them is taken. */
  readonly binaryDirectories: readonly string[]
  /** Free space that stays free whatever the write cache needs; bytes. */
  readonly reserveBytes: number
  /** The least that a write cache is reckoned to need; bytes. */
  readonly minimumFreeBytes: number
}

export interface PreflightRequest {
  readonly session: string
  readonly input: StepInput
  readonly settings: PreflightSettings
  /** Ports that other sessions of this target have or will have. */
  readonly reservedPorts?: ReadonlySet<number>
  readonly signal?: AbortSignal
}

/** What a check found: something that keeps the instance from being published, unless it says that it only warns. */
export interface Finding extends ErrorBody {
  readonly level?: 'warning'
}

/** What checks look up, once each. Undefined where the lookup failed, which is the finding of its own check. */
export interface PreflightContext {
  readonly request: PreflightRequest
  readonly mountPoint: string
  readonly cachePath: string
  readonly user: () => Promise<Lookup<SystemUser>>
  readonly binaries: () => Promise<Lookup<string>>
  readonly port: () => Promise<Lookup<number>>
}

/** What was found, or the findings that say why not. */
export type Lookup<T> =
  | { readonly value: T; readonly findings?: undefined }
  | { readonly value?: undefined; readonly findings: Finding[] }
