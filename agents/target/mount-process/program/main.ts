/** The program of a mount process, for a backup read over the data plane. Started by launch.ts. */
import { readFileSync } from 'node:fs'
import { connectDataPlane } from '../../../dataplane/client/client.ts'
import { mountProgram } from './mount-program.ts'

await mountProgram(({ dataPlane, readDeadlineMs }, logger) => {
  const { host, port, ticket, serverName, tls } = dataPlane
  return connectDataPlane({
    host,
    port,
    ticket,
    serverName,
    tls: { ca: readFileSync(tls.ca), cert: readFileSync(tls.cert), key: readFileSync(tls.key) },
    logger,
    deadlineMs: readDeadlineMs,
  })
})
