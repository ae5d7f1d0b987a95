/**
 * Every configuration key of every role: what it means, its default, its environment variable and its flag. The
 * values come from the configuration file, then the environment, then flags; the last one wins.
 */
import convict, { type Schema } from 'convict'
import {
  absolutePath,
  brokerUrls,
  bytes,
  type CredentialConfig,
  count,
  credentials,
  days,
  directories,
  directoryPatterns,
  limit,
  listenAddress,
  managementUrl,
  name,
  port,
  portOrAny,
  postgresUrl,
  type RepositoryConfig,
  repositories,
  seconds,
  toggle,
  words,
} from './formats.ts'

for (const format of [
  absolutePath,
  brokerUrls,
  bytes,
  count,
  credentials,
  days,
  directories,
  directoryPatterns,
  limit,
  managementUrl,
  listenAddress,
  name,
  port,
  portOrAny,
  postgresUrl,
  repositories,
  seconds,
  toggle,
  words,
]) {
  convict.addFormat(format)
}

export interface CommonConfig {
  broker: { urls: string[]; ca: string | null; certificate: string | null; key: string | null }
  log: { level: string }
}

/** Of each role. */
export interface MetricsConfig {
  listen: string | null
}

/** Agents and coordinator must agree: an agent that is heard of more seldom than that counts as offline. */
export interface HeartbeatConfig {
  interval: number
  lostAfter: number
}

export interface TlsConfig {
  ca: string
  certificate: string
  key: string
}

export interface CoordinatorConfig extends CommonConfig {
  broker: CommonConfig['broker'] & { management: string | null; managementPasswordFile: string | null }
  authority: { directory: string | null; days: number }
  metrics: MetricsConfig
  store: { path: string; url: string | null }
  heartbeat: HeartbeatConfig
  retry: { attempts: number; firstDelay: number; maxDelay: number }
  resume: { automatic: boolean; attempts: number }
}

export interface MountAgentConfig extends CommonConfig {
  metrics: MetricsConfig
  name: string
  stateDirectory: string
  repositories: RepositoryConfig[]
  dataPlane: { host: string; port: number; advertise: string }
  tls: TlsConfig
  spool: { directory: string | null; maxBytes: number }
  heartbeat: HeartbeatConfig
}

/** What commands may ask of a target beyond the defaults. Lists of hosts and addresses: `*` allows all. */
export interface AllowConfig {
  users: string[]
  settings: string[]
  listen: string[]
  outbound: string[]
  exportDirectories: string[]
  exportHosts: string[]
}

export interface TargetAgentConfig extends CommonConfig {
  metrics: MetricsConfig
  name: string
  stateDirectory: string
  mountRoot: string
  cacheRoot: string
  tls: TlsConfig
  postgres: {
    user: string
    firstPort: number
    lastPort: number
    binaryDirectories: string[]
    startDeadline: number
  }
  cache: { minimumFreeBytes: number; reserveBytes: number; quotaBytes: number; fetchedBytes: number }
  isolation: { fileSystem: boolean; network: boolean; readable: string[]; writable: string[] }
  readDeadline: number
  limits: { sessions: number | null; cacheBytes: number | null }
  allow: AllowConfig
  credentials: Record<string, CredentialConfig>
  heartbeat: HeartbeatConfig
}

export interface ClientConfig extends CommonConfig {}

const common: Schema<CommonConfig> = {
  broker: {
    urls: {
      doc: 'RabbitMQ, a URL for each node: amqp://user:password@host:port/vhost, or amqps://… for TLS; broker.url is the same, for a single one',
      format: brokerUrls.name,
      default: ['amqp://127.0.0.1:5672'],
      env: 'HOWDAH_BROKER_URL',
      arg: 'broker',
      sensitive: true,
    },
    ca: {
      doc: 'File with the certificate authority that signed the certificate of the broker (PEM)',
      format: absolutePath.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_BROKER_CA',
    },
    certificate: {
      doc: 'File with the client certificate for the broker (PEM)',
      format: absolutePath.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_BROKER_CERTIFICATE',
    },
    key: {
      doc: 'File with the key of that certificate (PEM)',
      format: absolutePath.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_BROKER_KEY',
    },
  },
  log: {
    level: {
      doc: 'Log level',
      format: ['fatal', 'error', 'warn', 'info', 'debug', 'trace'],
      default: 'info',
      env: 'HOWDAH_LOG_LEVEL',
      arg: 'log-level',
    },
  },
}

/** `example`: a port for each role of one machine. */
const metrics = (example: number): Schema<MetricsConfig> => ({
  listen: {
    doc: `Address and port on which Prometheus and health checks are answered (/metrics, /healthz, /readyz), without TLS and login: 127.0.0.1:${example}; each role of a machine needs its own`,
    format: listenAddress.name,
    default: null,
    nullable: true,
    env: 'HOWDAH_METRICS_LISTEN',
    arg: 'metrics-listen',
  },
})

const agentName = {
  doc: 'Name of this agent: part of its queue name; for a target agent also the value of "howdah publish --target"',
  format: name.name,
  default: null as unknown as string,
  env: 'HOWDAH_AGENT_NAME',
  arg: 'name',
}

const stateDirectory = (role: string) => ({
  doc: 'Directory for state that must survive a restart',
  format: absolutePath.name,
  default: `/var/lib/howdah/${role}`,
  env: 'HOWDAH_STATE_DIRECTORY',
  arg: 'state-directory',
})

const tls = (role: string): Schema<TlsConfig> => ({
  ca: {
    doc: 'File with the certificate authority of the data plane (PEM)',
    format: absolutePath.name,
    default: '/etc/howdah/tls/ca.pem',
    env: 'HOWDAH_TLS_CA',
  },
  certificate: {
    doc: 'File with the certificate of this agent (PEM)',
    format: absolutePath.name,
    default: `/etc/howdah/tls/${role}.pem`,
    env: 'HOWDAH_TLS_CERTIFICATE',
  },
  key: {
    doc: 'File with the key of that certificate (PEM), readable by this agent only',
    format: absolutePath.name,
    default: `/etc/howdah/tls/${role}.key`,
    env: 'HOWDAH_TLS_KEY',
  },
})

const heartbeat: Schema<HeartbeatConfig> = {
  interval: {
    doc: 'Seconds between two heartbeats of an agent; the coordinator only compares it with heartbeat.lostAfter',
    format: seconds.name,
    default: 10,
    env: 'HOWDAH_HEARTBEAT_INTERVAL',
  },
  lostAfter: {
    doc: 'Seconds without a heartbeat after which the coordinator counts an agent as offline; an agent only compares it with heartbeat.interval',
    format: seconds.name,
    default: 30,
    env: 'HOWDAH_HEARTBEAT_LOST_AFTER',
  },
}

export const coordinatorSchema: Schema<CoordinatorConfig> = {
  ...common,
  broker: {
    ...(common.broker as object as Schema<CommonConfig['broker']>),
    management: {
      doc: 'Management API of the broker, through which users of agents are made and removed: http://howdah-management@host:15672, or https://…',
      format: managementUrl.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_BROKER_MANAGEMENT',
    },
    managementPasswordFile: {
      doc: 'File with the password of that user, readable by the coordinator only',
      format: absolutePath.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_BROKER_MANAGEMENT_PASSWORD_FILE',
    },
  },
  authority: {
    directory: {
      doc: 'Directory with ca.pem and ca.key of the authority that signs the certificates of agents; null: agents are not enrolled here',
      format: absolutePath.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_AUTHORITY_DIRECTORY',
    },
    days: {
      doc: 'Days for which a certificate of an agent is valid; it is renewed when a third of them is left',
      format: days.name,
      default: 90,
      env: 'HOWDAH_AUTHORITY_DAYS',
    },
  },
  metrics: metrics(7421),
  store: {
    path: {
      doc: 'SQLite file that holds sessions and their history',
      format: absolutePath.name,
      default: '/var/lib/howdah/coordinator/store.sqlite',
      env: 'HOWDAH_STORE_PATH',
      arg: 'store',
    },
    url: {
      doc: 'PostgreSQL database that holds them instead, which several coordinators can share',
      format: postgresUrl.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_STORE_URL',
      sensitive: true,
    },
  },
  heartbeat,
  retry: {
    attempts: {
      doc: 'Attempts of a step that fails for a transient reason before the session fails',
      format: count.name,
      default: 5,
      env: 'HOWDAH_RETRY_ATTEMPTS',
    },
    firstDelay: {
      doc: 'Seconds before the first retry; doubled for each further one',
      format: seconds.name,
      default: 1,
      env: 'HOWDAH_RETRY_FIRST_DELAY',
    },
    maxDelay: {
      doc: 'Longest such delay in seconds',
      format: seconds.name,
      default: 60,
      env: 'HOWDAH_RETRY_MAX_DELAY',
    },
  },
  resume: {
    automatic: {
      doc: 'Whether a published session that lost a component resumes automatically when possible; if not, "howdah retry" resumes it',
      format: toggle.name,
      default: true,
      env: 'HOWDAH_RESUME_AUTOMATIC',
    },
    attempts: {
      doc: 'Consecutive failures after which such a session waits for "howdah retry"; an unavailable agent does not count',
      format: count.name,
      default: 20,
      env: 'HOWDAH_RESUME_ATTEMPTS',
    },
  },
}

export const mountAgentSchema: Schema<MountAgentConfig> = {
  ...common,
  metrics: metrics(7422),
  name: agentName,
  stateDirectory: stateDirectory('mount-agent'),
  repositories: {
    doc: 'Repositories to serve: [{"name", "format": "pgbackrest" | "barman" | "basebackup", "path", "passphraseFile"?, "walPath"?, "linkTargets"?, "verifyChecksums"?, "verifyPages"?}]; pgbackrest and barman: "configFile" instead of "path"; pgbackrest: "repo"? with it',
    format: repositories.name,
    default: [],
    // Somebody may give a passphrase where its file belongs; what is wrong is said without the value.
    sensitive: true,
  },
  dataPlane: {
    host: {
      doc: 'Address to listen on for target servers',
      format: String,
      default: '127.0.0.1',
      env: 'HOWDAH_DATA_PLANE_HOST',
    },
    port: {
      doc: 'Port to listen on; 0: a free port at every start',
      format: portOrAny.name,
      default: 7420,
      env: 'HOWDAH_DATA_PLANE_PORT',
    },
    advertise: {
      doc: 'Host name or address by which target servers reach this server',
      format: String,
      default: '127.0.0.1',
      env: 'HOWDAH_DATA_PLANE_ADVERTISE',
    },
  },
  tls: tls('mount-agent'),
  spool: {
    directory: {
      doc: 'Directory for decoded copies of compressed files; default: spool/ in stateDirectory',
      format: absolutePath.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_SPOOL_DIRECTORY',
    },
    maxBytes: {
      doc: 'Maximum size of the spool: bytes, or a number with a unit ("50 GiB")',
      format: bytes.name,
      default: 50 * 1024 ** 3,
      env: 'HOWDAH_SPOOL_MAX_BYTES',
    },
  },
  heartbeat,
}

export const targetAgentSchema: Schema<TargetAgentConfig> = {
  ...common,
  metrics: metrics(7423),
  name: agentName,
  stateDirectory: stateDirectory('target-agent'),
  mountRoot: {
    doc: 'Directory below which sessions are mounted',
    format: absolutePath.name,
    default: '/tmp/howdah',
    env: 'HOWDAH_MOUNT_ROOT',
  },
  cacheRoot: {
    doc: 'Directory below which sessions keep their write caches',
    format: absolutePath.name,
    default: '/var/tmp/howdah',
    env: 'HOWDAH_CACHE_ROOT',
  },
  tls: tls('target-agent'),
  postgres: {
    user: {
      doc: 'Operating system user of published instances unless a publish command names another',
      format: String,
      default: 'postgres',
      env: 'HOWDAH_POSTGRES_USER',
    },
    firstPort: {
      doc: 'First port of the range for instances whose publish command names none; keep the range outside of the ephemeral ports (net.ipv4.ip_local_port_range)',
      format: port.name,
      default: 25432,
      env: 'HOWDAH_POSTGRES_FIRST_PORT',
    },
    lastPort: {
      doc: 'Last port of that range',
      format: port.name,
      default: 26431,
      env: 'HOWDAH_POSTGRES_LAST_PORT',
    },
    binaryDirectories: {
      doc: 'Directories to search for PostgreSQL executables; %v stands for the major version',
      format: directoryPatterns.name,
      default: ['/usr/lib/postgresql/%v/bin', '/usr/pgsql-%v/bin', '/opt/postgresql/%v/bin'],
      env: 'HOWDAH_POSTGRES_BINARY_DIRECTORIES',
    },
    startDeadline: {
      doc: 'Seconds without progress after which a starting instance counts as stuck',
      format: seconds.name,
      default: 600,
      env: 'HOWDAH_POSTGRES_START_DEADLINE',
    },
  },
  cache: {
    minimumFreeBytes: {
      doc: 'Free space that the file system of the write caches must have before a session may start',
      format: bytes.name,
      default: 1024 ** 3,
      env: 'HOWDAH_CACHE_MINIMUM_FREE_BYTES',
    },
    reserveBytes: {
      doc: 'Free space that sessions leave on that file system; below it, writes fail with "no space left on device"',
      format: bytes.name,
      default: 256 * 1024 ** 2,
      env: 'HOWDAH_CACHE_RESERVE_BYTES',
    },
    quotaBytes: {
      doc: 'Maximum size of the changes of one session, not counting pg_wal, which max_wal_size bounds; 0: no limit but the reserve',
      format: bytes.name,
      default: 0,
      env: 'HOWDAH_CACHE_QUOTA_BYTES',
    },
    fetchedBytes: {
      doc: 'Maximum size of the blocks fetched from repositories, over all sessions, which later sessions of the same backup reuse; 0: keep none',
      format: bytes.name,
      default: 20 * 1024 ** 3,
      env: 'HOWDAH_CACHE_FETCHED_BYTES',
    },
  },
  isolation: {
    fileSystem: {
      doc: 'Whether instances run in a mount namespace in which they can write to nothing but their own directories; needs root',
      format: toggle.name,
      default: true,
      env: 'HOWDAH_ISOLATION_FILE_SYSTEM',
    },
    network: {
      doc: 'Whether instances can connect to nothing but themselves and what a publish command allows; needs root and nftables',
      format: toggle.name,
      default: true,
      env: 'HOWDAH_ISOLATION_NETWORK',
    },
    readable: {
      doc: 'Further directories that instances can read, beside those of programs and libraries',
      format: directories.name,
      default: [],
      env: 'HOWDAH_ISOLATION_READABLE',
    },
    writable: {
      doc: 'Further directories that instances can write to, as far as their user may',
      format: directories.name,
      default: [],
      env: 'HOWDAH_ISOLATION_WRITABLE',
    },
  },
  readDeadline: {
    doc: 'Seconds that a read waits for an unreachable mount server before PostgreSQL gets an I/O error',
    format: seconds.name,
    default: 120,
    env: 'HOWDAH_READ_DEADLINE',
  },
  limits: {
    sessions: {
      doc: 'Maximum number of concurrent sessions on this target; null: no limit',
      format: limit.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_LIMIT_SESSIONS',
    },
    cacheBytes: {
      doc: 'Maximum size of all write caches together, pg_wal included: sessions share it, and at it no further one is accepted; null: no limit',
      format: bytes.name,
      default: null,
      nullable: true,
      env: 'HOWDAH_LIMIT_CACHE_BYTES',
    },
  },
  allow: {
    users: {
      doc: 'Operating system users that commands may run instances as, beside postgres.user',
      format: words.name,
      default: [],
      env: 'HOWDAH_ALLOW_USERS',
    },
    settings: {
      doc: 'PostgreSQL settings that commands may give although they run programs, load code or name files: ["shared_preload_libraries"]',
      format: words.name,
      default: [],
      env: 'HOWDAH_ALLOW_SETTINGS',
    },
    listen: {
      doc: 'Addresses that commands may have instances listen on, beside those of the loopback interface; "*" allows all',
      format: words.name,
      default: [],
      env: 'HOWDAH_ALLOW_LISTEN',
    },
    outbound: {
      doc: 'Hosts, as HOST or HOST:PORT, that commands may have instances connect to; "*" allows all',
      format: words.name,
      default: [],
      env: 'HOWDAH_ALLOW_OUTBOUND',
    },
    exportDirectories: {
      doc: 'Directories of this server to which, or below which, commands may export',
      format: directories.name,
      default: [],
      env: 'HOWDAH_ALLOW_EXPORT_DIRECTORIES',
    },
    exportHosts: {
      doc: 'Hosts, as HOST or HOST:PORT, to which commands may export by SFTP or into a running server; "*" allows all',
      format: words.name,
      default: [],
      env: 'HOWDAH_ALLOW_EXPORT_HOSTS',
    },
  },
  credentials: {
    doc: 'Credentials for the destinations of exports, by name: {"NAME": {"user"?, "passwordFile"?, "privateKeyFile"?, "passphraseFile"?, "knownHostsFile"?, "hostKeyFingerprint"?, "sslMode"?, "sslRootCertificate"?}}',
    format: credentials.name,
    default: {},
    sensitive: true,
  },
  heartbeat,
}

export const clientSchema: Schema<ClientConfig> = common

/** What single values cannot show to be wrong; undefined: they go together. */
export function combinationProblem(config: { readonly heartbeat?: HeartbeatConfig }): string | undefined {
  const { heartbeat: beat } = config
  if (beat === undefined || beat.interval < beat.lostAfter) return undefined
  return `heartbeat.interval: must be less than heartbeat.lostAfter, which is ${beat.lostAfter}: value was ${beat.interval}`
}
