/** Mounts a session by the driver that this user may use, with the engine in the thread that the driver requires. */
import type { Logger } from 'pino'
import { fuseNativeDriver } from '../../filesystem/drivers/fuse-native.ts'
import { mountDevice } from '../../filesystem/drivers/kernel/mount-device.ts'
import type { MountDriver, MountSpec } from '../mount-spec.ts'
import { serveInMainThread } from './engine-in-main-thread.ts'
import { type EngineWorker, startEngineWorker } from './engine-worker.ts'
import type { Serving, ServingEngine } from './serving.ts'

/** What a mount process loads before it has its spec. */
export interface MountProgram {
  /** The engine thread, where the default driver is the kernel's protocol. */
  readonly worker: EngineWorker | undefined
}

const fuseNative = fuseNativeDriver()

/** Loads what mounting needs; a failure is reported by the mount. */
export async function loadMountProgram(): Promise<MountProgram> {
  if (defaultDriver() === 'kernel') return { worker: startEngineWorker() }
  await fuseNative.load().catch(() => undefined)
  return { worker: undefined }
}

/** A mount in progress. */
export interface Mounting {
  /** @throws HowdahError `mount_failed` | `fuse_unusable` */
  serve(serving: Serving): Promise<ServingEngine>
  /** Resolves when mounting has succeeded or failed. */
  settled(): Promise<void>
}

/** Starts to mount, as far as that needs no engine. */
export function beginMount(spec: MountSpec, program: MountProgram, logger: Logger): Mounting {
  if ((spec.driver ?? defaultDriver()) === 'fuse-native') {
    return {
      serve: (serving) => serveInMainThread(serving, fuseNative, logger),
      settled: async () => undefined,
    }
  }
  const worker = program.worker ?? startEngineWorker()
  const mounting = mountDevice(spec.mountPoint, {
    ...spec.owner,
    allowOther: spec.allowOther,
    source: `howdah:${spec.session}`,
    logger,
  })
  // `serve` reports the error.
  const settled = mounting.then(
    () => undefined,
    () => undefined,
  )
  return {
    serve: async (serving) => worker.serve(serving, await mounting, logger),
    settled: () => settled,
  }
}

/** The kernel's protocol needs the privilege to mount. */
function defaultDriver(): MountDriver {
  return process.geteuid?.() === 0 ? 'kernel' : 'fuse-native'
}
