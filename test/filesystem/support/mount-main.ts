/** A mount process whose backup is a plain directory, which the ticket names. */

import { awaitOrders, cachePaths } from '../../../agents/target/mount-process/mount-spec.ts'
import { runMountProcess } from '../../../agents/target/mount-process/run-mount-process.ts'
import { createLogger } from '../../../config/logger.ts'
import { errorBody } from '../../../messages/errors.ts'
import { directorySource } from './directory-source.ts'

process.umask(0o077)
const spec = awaitOrders()
if (spec === undefined) process.exit(0)
process.title = `howdah mount ${spec.session}`
const logger = createLogger('mount-process', spec.logLevel ?? 'info', cachePaths(spec.cachePath).log)
try {
  await runMountProcess(spec, { source: directorySource(spec.dataPlane.ticket), logger })
  process.exit()
} catch (error) {
  logger.fatal({ err: error, error: errorBody(error) }, 'the mount process ends')
  process.exit(1)
}
