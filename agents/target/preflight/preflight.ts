/**
 * Checks a target before anything is mounted. Every check runs, whatever the others find, and every failure is reported.
 * Owns the two roots of mount points and write caches, which it creates and leaves behind; it mounts and starts nothing.
 *
 * A request becomes a PreflightContext (settings.ts), in which user, executables and port are looked up once; CHECKS run
 * concurrently on it, each in its file.
 */
import { dirname } from 'node:path'
import type { Estimate } from '../../../messages/definitions.ts'
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import { formatBytesRoughly } from '../../../messages/format-bytes.ts'
import type { PreflightResult } from '../../../messages/steps.ts'
import { destinationRefusal, optionRefusals, userRefusal } from '../allow/allowed.ts'
import { requireDumpProgram } from '../export/dump/dump-program.ts'
import { findPostmaster } from '../postgres/process/process-table.ts'
import {
  sharedMemoryDenied,
  sharedMemoryShortage,
  sharedMemoryWarning,
} from '../postgres/process/shared-memory-space.ts'
import { optionFindings } from '../postgres/settings/user-settings.ts'
import type { SystemUser } from '../postgres/specification.ts'
import { accessProblem } from './access.ts'
import { lookUpBinaries } from './binaries.ts'
import { extensionFindings, libraryFindings } from './extensions.ts'
import { cacheRootFindings, mountRootFindings } from './file-system.ts'
import { checkFuse } from './fuse.ts'
import { localeFindings, systemLocales } from './locales.ts'
import { lookUpPort } from './port.ts'
import { directoryProblems } from './safe-directory.ts'
import type { Finding, Lookup, PreflightContext, PreflightRequest } from './settings.ts'
import { estimateCacheBytes, estimateFirstTouch, freeBytes } from './space.ts'
import { lookUpUser } from './user.ts'

/** sun_path of a Unix socket address, without its final NUL; unix(7). */
const MAX_SOCKET_PATH = 107

type Check = (context: PreflightContext) => Promise<Finding[]>

/** In the order in which findings are reported. `ofBackup`: skipped while the backup is unknown. */
const CHECKS: readonly { readonly name: string; readonly run: Check; readonly ofBackup?: true }[] = [
  { name: 'user', run: async ({ user }) => (await user()).findings ?? [] },
  { name: 'binaries', run: async ({ binaries }) => (await binaries()).findings ?? [], ofBackup: true },
  { name: 'allowed', run: checkAllowed },
  { name: 'port', run: async ({ port }) => (await port()).findings ?? [] },
  { name: 'fuse', run: () => checkFuse() },
  { name: 'directories', run: checkDirectories },
  { name: 'space', run: checkSpace, ofBackup: true },
  { name: 'locales', run: checkLocales, ofBackup: true },
  { name: 'extensions', run: checkExtensions, ofBackup: true },
  { name: 'options', run: checkOptions, ofBackup: true },
  { name: 'export', run: checkExport, ofBackup: true },
  { name: 'shared memory', run: checkSharedMemory },
]

export interface Inspection {
  /** Errors and warnings, in the order of the checks. */
  readonly findings: readonly Finding[]
  /** The user that would run the instance; missing if that is an error. */
  readonly user?: SystemUser
  /** Missing if there are errors, or the backup is unknown. */
  readonly result?: PreflightResult
}

/** Runs every check. Never throws for a finding. */
export async function inspect(request: PreflightRequest): Promise<Inspection> {
  request.signal?.throwIfAborted()
  const context = createContext(request)
  const checks = CHECKS.filter(({ ofBackup }) => !ofBackup || request.input.resolved !== undefined)
  const findings = (await Promise.all(checks.map((check) => runCheck(check, context)))).flat()
  request.signal?.throwIfAborted()
  const [user, binaries, port] = await Promise.all([context.user(), context.binaries(), context.port()])
  const value = { user: user.value, binaries: binaries.value, port: port.value }
  const found = { findings, ...(value.user && { user: value.user }) }
  if (findings.some(isError) || !value.user || !value.binaries || !value.port) return found
  return {
    ...found,
    result: {
      port: value.port,
      user: value.user.name,
      binaries: value.binaries,
      mountPoint: context.mountPoint,
      cachePath: context.cachePath,
      warnings: findings.map(({ message }) => message),
    },
  }
}

/**
 * @throws HowdahError with the code of the one check that failed, or `preflight_failed` with `details` for several
 */
export async function preflight(request: PreflightRequest): Promise<PreflightResult> {
  const { findings, result } = await inspect(request)
  const errors = findings.filter(isError)
  const [only] = errors
  if (errors.length > 1)
    throw new HowdahError(
      'preflight_failed',
      `${errors.length} checks failed on the target: ${errors.map(({ message }) => message).join(' ')}`,
      { details: errors },
    )
  if (only !== undefined) throw HowdahError.of(only)
  if (!result) throw new HowdahError('internal', 'Preflight passed without a user, executables or a port.')
  return result
}

/** Estimates what a publish will fetch and store. `touchedBytes`: what the last publish of the backup read. */
export async function estimate(
  { input, settings }: Pick<PreflightRequest, 'input' | 'settings'>,
  touchedBytes: number | undefined,
): Promise<Estimate> {
  const { bytes } = await freeBytesNear(settings.cacheRoot)
  const freeBytes = Math.max(0, bytes - settings.reserveBytes)
  const { resolved } = input
  if (!resolved) return { freeBytes }
  const { totalBytes, walBytes = 0 } = resolved
  return {
    fetchBytes: (touchedBytes ?? estimateFirstTouch(totalBytes)) + walBytes,
    cacheBytes: cacheNeed(input, settings),
    freeBytes,
  }
}

function isError({ level }: Finding): boolean {
  return level !== 'warning'
}

async function runCheck(
  { name, run }: (typeof CHECKS)[number],
  context: PreflightContext,
): Promise<Finding[]> {
  try {
    return await run(context)
  } catch (error) {
    const { code, message } = errorBody(error)
    return [{ code, message: `The check "${name}" could not be made: ${message}` }]
  }
}

function createContext(request: PreflightRequest): PreflightContext {
  const { session, input, settings, reservedPorts } = request
  const mountPoint = `${settings.mountRoot}/${session}`
  const cachePath = `${settings.cacheRoot}/${session}`
  const user = once(async (): Promise<Lookup<SystemUser>> => {
    const name = input.options.user ?? settings.defaultUser
    const refusal = userRefusal(name, settings.defaultUser, settings.allow)
    return refusal ? { findings: [refusal.toBody()] } : lookUpUser(name, process.geteuid?.() ?? 0)
  })
  const binaries = once(async () => {
    const version = input.resolved?.backup.postgresVersion
    if (version === undefined) return { findings: [] }
    return lookUpBinaries(version, settings.binaryDirectories, (await user()).value)
  })
  const port = once(async () => {
    const uid = (await user()).value?.uid
    const own = uid === undefined ? undefined : await findPostmaster({ session, mountPoint, cachePath, uid })
    return lookUpPort(input.options.port, settings.portRange, reservedPorts ?? new Set(), own?.port)
  })
  return { request, mountPoint, cachePath, user, binaries, port }
}

function resolvedOf({ input }: PreflightRequest) {
  if (input.resolved === undefined)
    throw new HowdahError('internal', 'Preflight needs the result of the step "resolve".')
  return input.resolved
}

async function checkAllowed({ request: { input, settings } }: PreflightContext): Promise<Finding[]> {
  const refusals = optionRefusals(input.options, settings.allow)
  // A publish that is only for an export is in vain if that may not go where it is to.
  const { export: job, resumes = false } = input
  if (job && !resumes) {
    const refusal = await destinationRefusal(job.request.destination, settings.allow)
    if (refusal) refusals.push(refusal)
  }
  return refusals.map((error) => error.toBody())
}

async function checkOptions({ request, user, binaries }: PreflightContext): Promise<Finding[]> {
  const [owner, directory] = [(await user()).value, (await binaries()).value]
  if (!owner || !directory) return []
  const { options } = request.input
  if (optionRefusals(options, request.settings.allow).length > 0) return []
  const findings = await optionFindings(options, { binaries: directory, user: owner })
  return findings.map((error) => error.toBody())
}

/** A publish that is only for an export is in vain if nothing can dump the instance. */
async function checkExport({ request: { input }, user, binaries }: PreflightContext): Promise<Finding[]> {
  const { export: job, resumes = false, resolved } = input
  const [owner, directory] = [(await user()).value, (await binaries()).value]
  if (!job || resumes || !resolved || !owner || !directory) return []
  const version = resolved.backup.postgresVersion
  try {
    await requireDumpProgram({ version, binaries: directory, user: owner })
    return []
  } catch (error) {
    return [errorBody(error)]
  }
}

/** Other types of dynamic shared memory do not use /dev/shm. */
async function checkSharedMemory({ request, user }: PreflightContext): Promise<Finding[]> {
  const kind = request.input.options.settings?.dynamic_shared_memory_type ?? 'posix'
  if (kind !== 'posix') return []
  const shortage = await sharedMemoryShortage()
  const owner = (await user()).value
  const problem = shortage ?? (owner && (await sharedMemoryDenied(owner)))
  if (problem !== undefined) return [{ code: 'shared_memory_low', message: problem }]
  const remark = await sharedMemoryWarning()
  return remark === undefined ? [] : [{ level: 'warning', code: 'shared_memory_low', message: remark }]
}

async function checkDirectories({ request, cachePath, user, port }: PreflightContext): Promise<Finding[]> {
  const { mountRoot, cacheRoot } = request.settings
  const unsafe = (message: string): Finding => ({ code: 'path_unsafe', message })
  if (`${cacheRoot}/`.startsWith(`${mountRoot}/`) || `${mountRoot}/`.startsWith(`${cacheRoot}/`))
    return [
      unsafe(
        `The cache directory ${cacheRoot} and the mount directory ${mountRoot} must not lie in each other.`,
      ),
    ]
  const { value } = await user()
  const findings = [
    ...(await directoryProblems(mountRoot, value)).map((problem) => unsafe(`Mount directory: ${problem}`)),
    ...(await directoryProblems(cacheRoot, value)).map((problem) => unsafe(`Cache directory: ${problem}`)),
  ]
  const socket = `${cachePath}/run/.s.PGSQL.${(await port()).value ?? 65535}`
  const closed =
    value && findings.length === 0 ? await accessProblem({ cacheRoot, mountRoot }, value) : undefined
  if (closed !== undefined) findings.push({ code: 'user_unusable', message: closed, field: 'user' })
  if (findings.length === 0) {
    findings.push(...mountRootFindings(mountRoot), ...(await cacheRootFindings(cacheRoot)))
  }
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH)
    findings.push(
      unsafe(
        `The path of the instance's socket, ${socket}, is longer than the ${MAX_SOCKET_PATH} bytes that the system allows. Configure a shorter cache directory.`,
      ),
    )
  return findings
}

async function checkSpace({ request: { input, settings } }: PreflightContext): Promise<Finding[]> {
  const { cacheRoot, reserveBytes } = settings
  const need = cacheNeed(input, settings)
  const { path, bytes: free } = await freeBytesNear(cacheRoot)
  if (free >= need + reserveBytes) return []
  return [
    {
      code: 'space_low',
      message: `The write cache needs about ${formatBytesRoughly(need)} on the file system of ${path}, and ${formatBytesRoughly(reserveBytes)} are to stay free, but only ${formatBytesRoughly(free)} are free. Make room, or configure a cache directory on another file system.`,
    },
  ]
}

function cacheNeed(
  { resolved }: PreflightRequest['input'],
  { minimumFreeBytes }: PreflightRequest['settings'],
): number {
  const { totalBytes = 0, fileCount = 0, walBytes = 0 } = resolved ?? {}
  return estimateCacheBytes({ totalBytes, fileCount, walBytes }, minimumFreeBytes)
}

async function checkLocales({ request }: PreflightContext): Promise<Finding[]> {
  const { catalog } = resolvedOf(request)
  return catalog ? localeFindings(catalog, await systemLocales()) : []
}

async function checkExtensions({ request, binaries }: PreflightContext): Promise<Finding[]> {
  const { catalog: { extensions = [] } = {}, preloadedLibraries = [] } = resolvedOf(request)
  const directory = (await binaries()).value
  if (directory === undefined) return []
  const used = new Set(extensions.map(({ name }) => name))
  const others = preloadedLibraries.filter((library) => !used.has(library))
  // The user's own list replaces the backup's.
  const asked = request.input.options.settings?.shared_preload_libraries !== undefined
  return [
    ...(await extensionFindings(extensions, directory)),
    ...(asked ? [] : await libraryFindings(others, directory)),
  ]
}

/** Free bytes at `path`, or at the nearest directory above it that exists. */
async function freeBytesNear(path: string): Promise<{ path: string; bytes: number }> {
  try {
    return { path, bytes: await freeBytes(path) }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || path === '/') throw error
    return freeBytesNear(dirname(path))
  }
}

function once<T>(look: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined
  return () => {
    result ??= look()
    return result
  }
}
