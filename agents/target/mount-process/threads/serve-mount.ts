/** Mounts a session by the driver that its user may use, with the engine in the thread that the driver wants it in. */
import type { Logger } from 'pino'
import { fuseNativeDriver } from '../../filesystem/drivers/fuse-native.ts'
import { mountDevice } from '../../filesystem/drivers/kernel/mount-device.ts'
import type { MountDriver, MountSpec } from '../mount-spec.ts'
import { serveInMainThread } from './engine-in-main-thread.ts'
import { type EngineWorker, startEngineWorker } from './engine-worker.ts'
import type { Serving, ServingEngine } from './serving.ts'

/** What a mount process loads before it knows what it will mount. */
export interface MountProgram {
  /** Of the driver that is used unless the orders say otherwise. */
  readonly worker: EngineWorker | undefined
}

const fuseNative = fuseNativeDriver()

/** Loads what mounting needs; a failure shows at mount. */
export async function loadMountProgram(): Promise<MountProgram> {
  if (usualDriver() === 'kernel') return { worker: startEngineWorker() }
  await fuseNative.load().catch(() => undefined)
  return { worker: undefined }
}

/** A mount that is on its way. */
export interface Mounting {
  /** @throws HowdahError `mount_failed` | `fuse_unusable` */
  serve(serving: Serving): Promise<ServingEngine>
  /** Resolves when nothing will appear at the mount point any more that is not there. */
  settled(): Promise<void>
}

/** Begins to mount, as far as that needs no engine. */
export function beginMount(spec: MountSpec, program: MountProgram, logger: Logger): Mounting {
  if ((spec.driver ?? usualDriver()) === 'fuse-native') {
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
  // Whoever serves it hears what went wrong.
  const settled = mounting.then(
    () => undefined,
    () => undefined,
  )
  return {
    serve: async (serving) => worker.serve(serving, await mounting, logger),
    settled: () => settled,
  }
}

/** The kernel's protocol takes the privilege to mount. */
function usualDriver(): MountDriver {
  return process.geteuid?.() === 0 ? 'kernel' : 'fuse-native'
}
