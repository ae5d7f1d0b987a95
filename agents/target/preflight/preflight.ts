/**
 * Checks a target before anything is mounted: every check runs, and every one that fails is reported.
 *
 * It leaves nothing behind but the two roots of mount points and write caches.
 */
import { dirname } from 'node:path'
import type { PreflightResult } from '../../../messages/definitions.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { findPostmaster } from '../postgres/process-table.ts'
import { lookUpBinaries } from './binaries.ts'
import { checkFuse } from './fuse.ts'
import { lookUpPort } from './port.ts'
import { unsafeties } from './safe-directory.ts'
import type { Finding, PreflightContext, PreflightRequest } from './settings.ts'
import { estimateCacheBytes, formatBytes, freeBytes } from './space.ts'
import { lookUpUser } from './user.ts'

/** sun_path of a Unix socket address, without its final NUL; unix(7). */
const MAX_SOCKET_PATH = 107

type Check = (context: PreflightContext) => Promise<Finding[]>

/** In the order in which findings are reported. */
const CHECKS: readonly { readonly name: string; readonly run: Check }[] = [
  { name: 'user', run: async ({ user }) => (await user()).findings ?? [] },
  { name: 'binaries', run: async ({ binaries }) => (await binaries()).findings ?? [] },
  { name: 'port', run: async ({ port }) => (await port()).findings ?? [] },
  { name: 'fuse', run: () => checkFuse() },
  { name: 'directories', run: checkDirectories },
  { name: 'space', run: checkSpace },
]

/**
 * @throws HowdahError with the code of the one check that failed, or `preflight_failed` with `details` for several
 */
export async function preflight(request: PreflightRequest): Promise<PreflightResult> {
  request.signal?.throwIfAborted()
  const context = createContext(request)
  const findings = (await Promise.all(CHECKS.map((check) => runCheck(check, context)))).flat()
  request.signal?.throwIfAborted()
  const [only] = findings
  if (findings.length > 1)
    throw new HowdahError(
      'preflight_failed',
      `${findings.length} checks failed on the target: ${findings.map(({ message }) => message).join(' ')}`,
      { details: findings },
    )
  if (only !== undefined)
    throw new HowdahError(only.code, only.message, only.field === undefined ? {} : { field: only.field })
  const [user, binaries, port] = await Promise.all([context.user(), context.binaries(), context.port()])
  if (user.value === undefined || binaries.value === undefined || port.value === undefined)
    throw new HowdahError('internal', 'Preflight passed without a user, executables or a port.')
  return {
    port: port.value,
    user: user.value.name,
    binaries: binaries.value,
    mountPoint: context.mountPoint,
    cachePath: context.cachePath,
    warnings: [],
  }
}

async function runCheck(
  { name, run }: (typeof CHECKS)[number],
  context: PreflightContext,
): Promise<Finding[]> {
  try {
    return await run(context)
  } catch (error) {
    return [
      { code: 'internal', message: `The check "${name}" could not be made: ${(error as Error).message}` },
    ]
  }
}

function createContext(request: PreflightRequest): PreflightContext {
  const { session, input, settings, reservedPorts } = request
  const mountPoint = `${settings.mountRoot}/${session}`
  const cachePath = `${settings.cacheRoot}/${session}`
  const user = once(() => lookUpUser(input.options.user ?? settings.defaultUser, process.geteuid?.() ?? 0))
  const binaries = once(async () => {
    const version = resolvedOf(request).backup.postgresVersion
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
    ...(await unsafeties(mountRoot, value)).map((problem) => unsafe(`Mount directory: ${problem}`)),
    ...(await unsafeties(cacheRoot, value)).map((problem) => unsafe(`Cache directory: ${problem}`)),
  ]
  const socket = `${cachePath}/run/.s.PGSQL.${(await port()).value ?? 65535}`
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH)
    findings.push(
      unsafe(
        `The path of the instance's socket, ${socket}, is longer than the ${MAX_SOCKET_PATH} bytes that the system allows. Configure a shorter cache directory.`,
      ),
    )
  return findings
}

async function checkSpace({ request }: PreflightContext): Promise<Finding[]> {
  const { cacheRoot, minimumFreeBytes, reserveBytes } = request.settings
  const { totalBytes, fileCount } = resolvedOf(request)
  const estimate = estimateCacheBytes(totalBytes, fileCount, minimumFreeBytes)
  const { path, bytes: free } = await freeBytesNear(cacheRoot)
  if (free >= estimate + reserveBytes) return []
  return [
    {
      code: 'space_low',
      message: `The write cache needs about ${formatBytes(estimate)} on the file system of ${path}, and ${formatBytes(reserveBytes)} are to stay free, but only ${formatBytes(free)} are free. Make room, or configure a cache directory on another file system.`,
    },
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
