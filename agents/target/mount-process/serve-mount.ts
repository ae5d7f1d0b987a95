/** Mounts a session by the driver that its user may use, with the engine in the thread that the driver wants it in. */
import type { Logger } from 'pino'
import { fuseNativeDriver } from '../filesystem/drivers/fuse-native.ts'
import { mountDevice } from '../filesystem/drivers/kernel/mount-device.ts'
import { serveHere } from './engine-here.ts'
import { type EngineWorker, startEngineWorker } from './engine-worker.ts'
import type { MountDriver } from './mount-spec.ts'
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

/** @throws HowdahError `mount_failed` | `fuse_unusable` */
export async function serveMount(
  serving: Serving,
  program: MountProgram,
  logger: Logger,
): Promise<ServingEngine> {
  const { spec } = serving
  if ((spec.driver ?? usualDriver()) === 'fuse-native') return serveHere(serving, fuseNative, logger)
  const worker = program.worker ?? startEngineWorker()
  const mount = await mountDevice(spec.mountPoint, {
    ...spec.owner,
    allowOther: spec.allowOther,
    source: `howdah:${spec.session}`,
    logger,
  })
  return worker.serve(serving, mount, logger)
}

/** The kernel's protocol takes the privilege to mount. */
function usualDriver(): MountDriver {
  return process.geteuid?.() === 0 ? 'kernel' : 'fuse-native'
}
