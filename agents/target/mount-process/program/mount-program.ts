/** A mount process from start to end: loads, waits for its spec, mounts one session, and never leaves a mount without its server. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { createLogger } from '../../../../config/logger.ts'
import { errorBody } from '../../../../messages/errors.ts'
import type { DataPlaneObserver } from '../../../dataplane/client/observer.ts'
import { abortMount } from '../agent/dead-mount.ts'
import { createMeasurements } from '../measurements.ts'
import type { MountSource } from '../mount-source.ts'
import { awaitMountSpec, cachePaths, type MountSpec, mountTitle } from '../mount-spec.ts'
import { loadMountProgram, type MountProgram } from '../threads/serve-mount.ts'
import { runMountProcess } from './run-mount-process.ts'
import { warmUp } from './warm-up.ts'

/** A program that receives no spec within this time is a spare. Milliseconds. */
const SPARE_AFTER_MS = 100

/** `openSource` opens the backup that a spec names. Ends the process. */
export async function mountProgram(
  openSource: (spec: MountSpec, logger: Logger, observer: DataPlaneObserver) => MountSource,
): Promise<void> {
  process.umask(0o077)
  process.title = 'howdah mount, waiting'
  const program = await loadMountProgram()
  const received = awaitMountSpec()
  const spare = Promise.race([received.then(() => false), sleep(SPARE_AFTER_MS, true)])
  if (await spare) await warmUp()
  const spec = await received
  if (spec === undefined) process.exit(0)

  process.title = mountTitle(spec.session)
  const logger = createLogger('mount-process', spec.logLevel ?? 'info', {
    file: cachePaths(spec.cachePath).log,
  }).child({ session: spec.session })
  const fail = async (error: unknown) => {
    logger.fatal({ err: error, error: errorBody(error) }, 'the mount process ends')
    await endProgram(program, spec)
  }
  // The engine thread depends on this one, and Node would wait for it to wake up before it exits.
  process.on('uncaughtException', fail)
  try {
    const measurements = createMeasurements()
    const source = openSource(spec, logger, measurements.dataPlane)
    await runMountProcess(spec, { program, source, measurements, logger })
    process.exit()
  } catch (error) {
    await fail(error)
  }
}

/** Leaves no mount without a server, and no engine thread that sleeps in its device forever. */
async function endProgram({ worker }: MountProgram, { mountPoint }: MountSpec): Promise<never> {
  abortMount(mountPoint)
  if (await (worker?.end() ?? true)) process.exit(1)
  process.kill(process.pid, 'SIGKILL')
  throw new Error('unreachable: the process was killed')
}
