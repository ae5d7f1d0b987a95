/**
 * The life of a mount process: open the backup's tree and the write cache, mount, answer the control socket, and end
 * in order. It must never touch its own mount: it would wait for itself.
 */
import { spawn } from 'node:child_process'
import { chmodSync, chownSync, constants, createWriteStream, existsSync, mkdirSync, openSync } from 'node:fs'
import { open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import type { BackupSource } from '../../dataplane/backup-source.ts'
import { identify } from '../../runtime/process-identity.ts'
import { type BaseTree, buildBaseTree, parseBaseTree } from '../filesystem/base-tree.ts'
import { fuseNativeDriver } from '../filesystem/drivers/fuse-native.ts'
import { createEngine } from '../filesystem/engine.ts'
import { publishedTree } from '../filesystem/published-tree.ts'
import { listenForControl, type MountStatus } from './control-socket.ts'
import { clearDeadMount } from './dead-mount.ts'
import { cachePaths, type MountSpec } from './mount-spec.ts'

/** A backup whose server may be away. */
export type MountSource = BackupSource & {
  readonly connected: boolean
  readonly lastError?: string | undefined
}

export interface RunMountDependencies {
  readonly source: MountSource
  readonly logger: Logger
}

const driver = fuseNativeDriver()

/** Loads what mounting needs; a failure shows at mount. */
export async function warmUp(): Promise<void> {
  await driver.load().catch(() => undefined)
}

/** Mounts and serves until told to stop. @throws HowdahError `mount_failed` and what the source and the driver throw */
export async function runMountProcess(spec: MountSpec, dependencies: RunMountDependencies): Promise<void> {
  const { source, logger } = dependencies
  const { mountPoint, cachePath, owner } = spec
  const paths = cachePaths(cachePath)
  keepFromAgeing(cachePath)
  prepareDirectories(spec)
  await writeFile(paths.identity, JSON.stringify(identify(process.pid)), { mode: 0o600 })
  const tree = await openTree(spec, source, logger)
  const engine = createEngine({
    tree,
    cachePath,
    source,
    wal: source,
    owner,
    limits: { quotaBytes: spec.quotaBytes, reserveBytes: spec.reserveBytes },
    logger,
    deadlineMs: spec.readDeadlineMs,
  })
  const mounted = await driver.mount(mountPoint, engine, {
    ...owner,
    allowOther: spec.allowOther,
    source: `howdah:${spec.session}`,
  })

  let stopping: Promise<void> | undefined
  const stop = () => {
    stopping ??= end().catch((err: unknown) => {
      logger.error({ err }, 'the write cache could not be closed in order')
      process.exitCode = 1
    })
    return stopping
  }
  const server = await listenForControl(paths.socket, async (request) => {
    if (request === 'status') return status()
    await engine.flush()
    if (request === 'sync') return {}
    await mounted.unmount()
    return {}
  })
  const terminate = () => {
    logger.info('told to stop')
    mounted
      .unmount()
      // Whoever still has files open loses them with this process anyway.
      .catch(() => clearDeadMount(mountPoint))
      .catch((err: unknown) => logger.error({ err }, 'the mount could not be taken away'))
      .then(stop)
      .catch(() => undefined)
  }
  process.once('SIGTERM', terminate)
  process.once('SIGINT', terminate)
  tellReady()
  logger.info({ mountPoint, files: tree.count, sinceStartMs: Math.round(performance.now()) }, 'mounted')
  await mounted.ended
  await stop()

  async function end(): Promise<void> {
    server.close()
    await engine.close()
    await source.close()
    await rm(paths.identity, { force: true })
    logger.info('unmounted, and the write cache is closed')
  }

  function status(): MountStatus {
    const { fetchedBytes, totalBytes, cacheBytes, changedBytes, lastError } = engine.statistics()
    return {
      fetchedBytes,
      totalBytes,
      cacheBytes,
      changedBytes,
      connected: source.connected,
      lastError: source.lastError ?? lastError,
    }
  }
}

/**
 * systemd-tmpfiles deletes what is old in /tmp and /var/tmp, but nothing below a directory that somebody holds a lock
 * on (systemd.io/TEMPORARY_DIRECTORIES). flock(1) locks the open directory that it inherits, and the lock stays with
 * it in this process.
 */
function keepFromAgeing(directory: string): void {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  const flock = spawn('flock', ['--shared', '--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] })
  // Without flock(1) there is most likely no systemd-tmpfiles either.
  flock.on('error', () => undefined)
  flock.unref()
}

function prepareDirectories({ cachePath, mountPoint, owner }: MountSpec): void {
  const { wal, logDirectory } = cachePaths(cachePath)
  // The instance's user passes through to pg_wal and sees nothing else.
  chmodSync(cachePath, 0o711)
  for (const directory of [logDirectory, wal]) {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  }
  chownSync(wal, owner.uid, owner.gid)
  const umask = process.umask(0o022)
  // Not its parents: what lies above is for the agent to check.
  if (!existsSync(mountPoint)) mkdirSync(mountPoint, { mode: 0o700 })
  process.umask(umask)
}

/** The tree as it was saved at the first mount, so that a later one needs no mount server. */
async function openTree(spec: MountSpec, source: BackupSource, logger: Logger): Promise<BaseTree> {
  const { tree: path, wal } = cachePaths(spec.cachePath)
  if (existsSync(path)) return parseBaseTree(await readFile(path, 'utf8'), path)
  const tree = await buildBaseTree(
    publishedTree(source.tree(), {
      mountPoint: spec.mountPoint,
      walDirectory: wal,
      extraFiles: spec.extraFiles,
      now: Date.now() / 1000,
      onDropped: (link, target) =>
        logger.warn({ link, target }, 'a symbolic link out of the backup is left out'),
    }),
  )
  try {
    await saveDurably(path, tree.serialize())
  } catch (cause) {
    throw new HowdahError('mount_failed', `the backup's file list cannot be saved in ${path}`, { cause })
  }
  return tree
}

async function saveDurably(path: string, text: string): Promise<void> {
  const draft = `${path}.draft`
  await writeFile(draft, text, { mode: 0o600, flush: true })
  await rename(draft, path)
  const directory = await open(path.slice(0, path.lastIndexOf('/')))
  await directory.sync()
  await directory.close()
}

/** On the descriptor that the starter waits on; it may be gone, or there never was one. */
function tellReady(): void {
  const fd = process.env.HOWDAH_READY_FD
  if (fd === undefined) return
  const ready = createWriteStream('', { fd: Number(fd) })
  ready.on('error', () => undefined)
  ready.end('ready\n')
}
