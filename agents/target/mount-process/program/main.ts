/** The program of a mount process, for a backup read over the data plane. Started by launch.ts. */
import { followTls } from '../../../../config/tls.ts'
import { connectDataPlane } from '../../../dataplane/client/client.ts'
import { TLS_VERSIONS } from '../../../dataplane/protocol/protocol.ts'
import { mountProgram } from './mount-program.ts'

await mountProgram(({ dataPlane, readDeadlineMs }, logger, observer) => {
  const { host, port, ticket, serverName, tls } = dataPlane
  const { ca, cert: certificate, key } = tls
  return connectDataPlane({
    host,
    port,
    ticket,
    serverName,
    secureContext: followTls({ ca, certificate, key }, 'tls', TLS_VERSIONS),
    logger,
    deadlineMs: readDeadlineMs,
    observer,
  })
})
