/** The configuration files that `howdah up` writes for the three roles, one each, in its state directory. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import type { RepositoryConfig } from '../../../config/formats.ts'
import type { CommonConfig } from '../../../config/schema.ts'
import type { CertificatePaths } from '../../fleet/authority/certificates.ts'
import type { RoleName } from './role-process.ts'
import { writePrivate } from './state-directory.ts'

/** The name of both agents of `howdah up`. */
export const AGENT_NAME = 'local'
export const LOOPBACK = '127.0.0.1'

export interface RoleFilesOptions {
  readonly stateDirectory: string
  readonly broker: CommonConfig['broker']
  readonly repositories: readonly RepositoryConfig[]
  readonly dataPlanePort: number
  readonly mountCertificate: CertificatePaths
  readonly targetCertificate: CertificatePaths
  /** The only user that instances can run as, if `up` does not run as root. */
  readonly postgresUser: string | undefined
  /** Whether only its own users can send commands: the broker is private. */
  readonly isPrivate: boolean
}

/** What those may ask of the target who can read the state directory anyway. */
const OF_OWN_USERS = { listen: ['*'], outbound: ['*'], exportDirectories: ['/'], exportHosts: ['*'] }

/** Writes the files, mode 0600. Resolves to their paths. */
export function writeRoleFiles(options: RoleFilesOptions): Record<RoleName, string> {
  const { stateDirectory, broker } = options
  const directoryOf = (role: RoleName) => path.join(stateDirectory, role)
  const tls = ({ ca, cert, key }: CertificatePaths) => ({ ca, certificate: cert, key })
  const documents: Record<RoleName, object> = {
    coordinator: { broker, store: { path: path.join(directoryOf('coordinator'), 'store.sqlite') } },
    'mount-agent': {
      broker,
      name: AGENT_NAME,
      stateDirectory: directoryOf('mount-agent'),
      repositories: options.repositories,
      dataPlane: { host: LOOPBACK, port: options.dataPlanePort, advertise: LOOPBACK },
      tls: tls(options.mountCertificate),
    },
    'target-agent': {
      broker,
      name: AGENT_NAME,
      stateDirectory: directoryOf('target-agent'),
      tls: tls(options.targetCertificate),
      ...(options.postgresUser !== undefined && { postgres: { user: options.postgresUser } }),
      ...(options.isPrivate && { allow: OF_OWN_USERS }),
    },
  }
  const fileOf = (role: RoleName) => roleFile(stateDirectory, role)
  for (const [role, document] of Object.entries(documents)) writePrivate(fileOf(role as RoleName), document)
  return {
    coordinator: fileOf('coordinator'),
    'mount-agent': fileOf('mount-agent'),
    'target-agent': fileOf('target-agent'),
  }
}

const PreviousMountAgent = z.object({
  dataPlane: z.object({ port: z.int().min(1).max(65535) }),
  repositories: z.array(
    z.object({
      name: z.string(),
      format: z.enum(['pgbackrest', 'barman', 'basebackup']),
      path: z.string().exactOptional(),
      configFile: z.string().exactOptional(),
      passphraseFile: z.string().exactOptional(),
      walPath: z.string().exactOptional(),
      linkTargets: z.array(z.string()).exactOptional(),
    }),
  ),
})

/** The repositories and the port of the last `up` with this state directory; undefined if there was none. */
export function readPrevious(stateDirectory: string): z.infer<typeof PreviousMountAgent> | undefined {
  try {
    return PreviousMountAgent.parse(JSON.parse(readFileSync(roleFile(stateDirectory, 'mount-agent'), 'utf8')))
  } catch {
    return undefined
  }
}

/** Variables that would override the files, and that the roles must not inherit. */
const OVERRIDING = [
  'HOWDAH_AGENT_NAME',
  'HOWDAH_BROKER_URL',
  'HOWDAH_BROKER_CA',
  'HOWDAH_BROKER_CERTIFICATE',
  'HOWDAH_BROKER_KEY',
  'HOWDAH_CONFIG',
  'HOWDAH_METRICS_LISTEN',
  'HOWDAH_STATE',
  'HOWDAH_STATE_DIRECTORY',
  'HOWDAH_STORE_PATH',
  'HOWDAH_STORE_URL',
  'HOWDAH_TLS_CA',
  'HOWDAH_TLS_CERTIFICATE',
  'HOWDAH_TLS_KEY',
  'HOWDAH_DATA_PLANE_HOST',
  'HOWDAH_DATA_PLANE_PORT',
  'HOWDAH_DATA_PLANE_ADVERTISE',
]

/** The environment of the roles: without the variables that would override their files. */
export function roleEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !OVERRIDING.includes(name)))
}

function roleFile(stateDirectory: string, role: RoleName): string {
  return path.join(stateDirectory, 'config', `${role}.json`)
}
