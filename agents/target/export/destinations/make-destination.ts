/** Creates the destination that a request names. */
import type { ExportRequest } from '../../../../messages/exports.ts'
import { currentAddress, instanceAddress } from '../../postgres/connections/instance-client.ts'
import type { PublishedSession } from '../../session/published-session.ts'
import type { Programs } from '../dump/programs.ts'
import { workDirectory } from '../record.ts'
import { type Credentials, credential } from './credentials.ts'
import type { Destination } from './destination.ts'
import { liveServer } from './live-server.ts'
import { type Claim, localDirectory } from './local-directory.ts'
import { sftpDirectory } from './sftp-directory.ts'

export interface MakeDestinationOptions {
  readonly session: PublishedSession
  /** Id of the export. */
  readonly id: string
  readonly request: ExportRequest
  readonly jobs: number
  readonly credentials: Credentials
  readonly reserveBytes: number
  readonly claim: Claim
  readonly excludeFromChanges: <T>(work: () => Promise<T>) => Promise<T>
  readonly programs: Programs
  readonly signal: AbortSignal
}

/** @throws HowdahError `configuration` */
export function makeDestination(options: MakeDestinationOptions): Destination {
  const { session, id, request, credentials } = options
  const { destination } = request
  const common = {
    ...options,
    format: request.format ?? 'directory',
    user: session.user,
    label: `${session.session}-${id}`,
    cachePath: session.cachePath,
    workDirectory: workDirectory(session.cachePath),
  }
  switch (destination.type) {
    case 'directory':
      return localDirectory({ ...common, path: destination.path })
    case 'sftp':
      return sftpDirectory({
        ...common,
        request: destination,
        credential: credential(credentials, destination.credential),
      })
    case 'postgres':
      return liveServer({
        ...common,
        export: request,
        request: destination,
        credential: credential(credentials, destination.credential),
        address: async () => currentAddress(await instanceAddress(session)),
      })
    default:
      return destination satisfies never
  }
}
