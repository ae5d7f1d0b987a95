/** The program of a mount process: loads, waits for its orders, mounts one session. Started by launch.ts. */
import { readFileSync } from 'node:fs'
import { createLogger } from '../../../config/logger.ts'
import { errorBody } from '../../../messages/errors.ts'
import { connectDataPlane } from '../../dataplane/client.ts'
import { awaitOrders, cachePaths } from './mount-spec.ts'
import { runMountProcess, warmUp } from './run-mount-process.ts'

process.umask(0o077)
process.title = 'howdah mount, waiting'
await warmUp()
const spec = awaitOrders()
if (spec === undefined) process.exit(0)

process.title = `howdah mount ${spec.session}`
const logger = createLogger('mount-process', spec.logLevel ?? 'info', cachePaths(spec.cachePath).log).child({
  session: spec.session,
})
try {
  const { host, port, ticket, serverName, tls } = spec.dataPlane
  const source = connectDataPlane({
    host,
    port,
    ticket,
    serverName,
    tls: { ca: readFileSync(tls.ca), cert: readFileSync(tls.cert), key: readFileSync(tls.key) },
    logger,
    deadlineMs: spec.readDeadlineMs,
  })
  await runMountProcess(spec, { source, logger })
  process.exit()
} catch (error) {
  logger.fatal({ err: error, error: errorBody(error) }, 'the mount process ends')
  process.exit(1)
}
