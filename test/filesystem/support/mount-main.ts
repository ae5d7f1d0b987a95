/** A mount process whose backup is a plain directory: `node mount-main.ts <mount.json>`, the directory in the ticket. */

import { readMountSpec } from '../../../agents/target/mount-process/mount-spec.ts'
import { runMountProcess } from '../../../agents/target/mount-process/run-mount-process.ts'
import { createLogger } from '../../../config/logger.ts'
import { errorBody } from '../../../messages/errors.ts'
import { directorySource } from './directory-source.ts'

process.umask(0o077)
const spec = readMountSpec(process.argv[2] ?? '')
process.title = `howdah mount ${spec.session}`
const logger = createLogger('mount-process', spec.logLevel ?? 'info')
try {
  await runMountProcess(spec, { source: directorySource(spec.dataPlane.ticket), logger })
  process.exit()
} catch (error) {
  logger.fatal({ err: error, error: errorBody(error) }, 'the mount process ends')
  process.exit(1)
}
