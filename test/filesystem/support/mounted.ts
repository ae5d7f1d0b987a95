/** A directory mounted as a backup by a mount process of its own, and the commands that tests run on it. */
import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { clearDeadMount } from '../../../agents/target/mount-process/agent/dead-mount.ts'
import { launch } from '../../../agents/target/mount-process/agent/launch.ts'
import {
  findMountProcess,
  type MountProcess,
  startMountProcess,
} from '../../../agents/target/mount-process/agent/mount-process.ts'
import type { MountSpec } from '../../../agents/target/mount-process/mount-spec.ts'
import { type ImitatedKernel, imitating } from '../../support/kernels/kernels.ts'

const PROGRAM = fileURLToPath(new URL('./mount-main.ts', import.meta.url))
const COMMAND_DEADLINE_MS = 60_000
const run = promisify(execFile)

export const DRIVERS = ['kernel', 'fuse-native'] as const

/** What a test runs on that does not say it: HOWDAH_TEST_DRIVER, or what the mount process takes. */
const usual = DRIVERS.find((driver) => driver === process.env.HOWDAH_TEST_DRIVER)

export interface Scratch {
  /** Removed with everything in it, mounts and processes first. */
  readonly directory: string
  readonly mountPoint: string
  readonly cachePath: string
  /** A directory to be mounted as the backup. */
  readonly base: string
  /** Where it is once it is mounted. */
  readonly data: string
  /** The kernel that mount processes see; undefined: this one. */
  readonly kernel: ImitatedKernel | undefined
  remove(): Promise<void>
}

export interface ScratchPlace {
  readonly kernel?: ImitatedKernel | undefined
  /** Default: /var/tmp. */
  readonly parent?: string | undefined
}

export async function makeScratch(
  owner: { uid: number; gid: number },
  { kernel, parent = '/var/tmp' }: ScratchPlace = {},
): Promise<Scratch> {
  const directory = await mkdtemp(`${parent}/howdah-mount-`)
  const cachePath = `${directory}/cache`
  const mountPoint = `${directory}/mnt`
  await chmod(directory, 0o755)
  await mkdir(cachePath)
  const base = `${directory}/base`
  await mkdir(base)
  await chown(base, owner.uid, owner.gid)
  return {
    directory,
    mountPoint,
    cachePath,
    base,
    data: `${mountPoint}/data`,
    kernel,
    async remove() {
      await (await findMountProcess(cachePath))?.stop({ inUse: 'discard' })
      await clearDeadMount(mountPoint)
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Mounts `base` as the backup's `data/`; with main.ts for program, what `changes.dataPlane` leads to. */
export function startMount(
  scratch: Scratch,
  base: string,
  owner: { uid: number; gid: number },
  changes: Partial<MountSpec> = {},
  program: string | undefined = PROGRAM,
): Promise<MountProcess> {
  return startMountProcess(
    {
      session: 'test',
      ...(usual !== undefined && { driver: usual }),
      mountPoint: scratch.mountPoint,
      cachePath: scratch.cachePath,
      owner: { uid: owner.uid, gid: owner.gid },
      allowOther: true,
      // The test's mount program takes the directory for the ticket.
      dataPlane: { host: '', port: 0, ticket: base, serverName: '', tls: { ca: '', cert: '', key: '' } },
      extraFiles: [],
      reserveBytes: 0,
      readDeadlineMs: 10_000,
      ...changes,
    },
    {
      logger: pino({ level: 'silent' }),
      launch: () =>
        imitating(scratch.kernel, () =>
          launch({ errors: `${scratch.directory}/errors.log`, ...(program !== undefined && { program }) }),
        ),
    },
  )
}

/** Runs a shell script; gives its stdout. @throws Error with its stderr */
export async function shell(script: string, cwd: string): Promise<string> {
  const { stdout } = await run('sh', ['-euc', script], { cwd, timeout: COMMAND_DEADLINE_MS })
  return stdout
}

export async function python(script: string, cwd: string): Promise<string> {
  const { stdout } = await run('python3', ['-c', script], { cwd, timeout: COMMAND_DEADLINE_MS })
  return stdout.trim()
}
