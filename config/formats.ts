/** The value formats of the configuration: each validates one value and describes a valid one. */
import path from 'node:path'

export interface RepositoryConfig {
  name: string
  format: 'pgbackrest' | 'barman' | 'basebackup'
  /** Absent if `configFile` names it. */
  path?: string
  passphraseFile?: string
  walPath?: string
  /** Directories outside of the repository that symbolic links in it may point to. */
  linkTargets?: string[]
  /** pgbackrest, barman: the tool's own configuration file. */
  configFile?: string
  /** pgbackrest: the number of the repository in `configFile`. */
  repo?: number
  verifyChecksums?: boolean
  /** Whether checksums of data pages are verified as they are served; default: not. */
  verifyPages?: boolean
}

/** How to log in to a destination of exports; secrets are in files that only the agent reads. */
export interface CredentialConfig {
  user?: string
  passwordFile?: string
  privateKeyFile?: string
  passphraseFile?: string
  knownHostsFile?: string
  /** `SHA256:…`, as `ssh-keygen -l` prints it. */
  hostKeyFingerprint?: string
  /** libpq's sslmode, for a live server. */
  sslMode?: string
  sslRootCertificate?: string
}

/** A convict format: `name` is what the schema refers to, `coerce` also turns the text of a flag or variable into the value. */
export interface ValueFormat {
  readonly name: string
  readonly coerce: (value: unknown) => unknown
  /** Throws an error whose message describes a valid value. */
  readonly validate: (value: unknown) => void
}

function check(condition: boolean, expectation: string): void {
  if (!condition) throw new Error(expectation)
}

const same = (value: unknown): unknown => value

export const name: ValueFormat = {
  name: 'name',
  coerce: same,
  validate: (value) =>
    check(
      typeof value === 'string' && /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/.test(value),
      'must be set: letters, digits, _ and -, at most 63',
    ),
}

export const absolutePath: ValueFormat = {
  name: 'absolute-path',
  coerce: same,
  validate: (value) => check(typeof value === 'string' && path.isAbsolute(value), 'must be an absolute path'),
}

/** A text of digits becomes a number; any other stays what it is and is refused, unlike by convict's own formats. */
const wholeNumber = (value: unknown): unknown =>
  typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value

function numberFormat(formatName: string, least: number, most: number, expectation: string): ValueFormat {
  return {
    name: formatName,
    coerce: wholeNumber,
    validate: (value) =>
      check(
        Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most,
        expectation,
      ),
  }
}

/** A port to listen on, that is the same at every start. */
export const port = numberFormat('fixed-port', 1, 65_535, 'must be a port from 1 to 65535')
export const portOrAny = numberFormat('port-or-any', 0, 65_535, 'must be a port from 1 to 65535, or 0')

/** Where to listen: `HOST:PORT`, an IPv6 address in brackets. */
export const listenAddress: ValueFormat = {
  name: 'listen-address',
  coerce: same,
  validate: (value) => {
    const parts = typeof value === 'string' ? /^(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})$/.exec(value) : null
    check(
      parts !== null && Number(parts[1]) <= 65_535,
      'must be an address and a port to listen on, like 127.0.0.1:7421 or [::1]:7421',
    )
  },
}
export const count = numberFormat('count', 0, Number.MAX_SAFE_INTEGER, 'must be a whole number from 0')
export const limit = numberFormat('limit', 1, Number.MAX_SAFE_INTEGER, 'must be a whole number from 1')

/** Yes or no. */
export const toggle: ValueFormat = {
  name: 'toggle',
  coerce: (value) => (value === 'true' ? true : value === 'false' ? false : value),
  validate: (value) => check(typeof value === 'boolean', 'must be true or false'),
}

function urlFormat(formatName: string, protocols: string[], example: string): ValueFormat {
  return {
    name: formatName,
    coerce: same,
    validate: (value) =>
      check(
        typeof value === 'string' && URL.canParse(value) && protocols.includes(new URL(value).protocol),
        `must be a URL like ${example}`,
      ),
  }
}

const brokerUrl = urlFormat('broker-url', ['amqp:', 'amqps:'], 'amqp://user:password@host:5672/vhost')

/** The nodes of a broker, as a list or as comma-separated text. A password may have a comma in it. */
export const brokerUrls: ValueFormat = {
  name: 'broker-urls',
  coerce: (value) => (typeof value === 'string' ? value.split(/\s*,\s*(?=amqps?:\/\/)/) : value),
  validate: (value) => {
    check(Array.isArray(value) && value.length > 0, 'must be at least one URL of a broker')
    for (const url of value as unknown[]) brokerUrl.validate(url)
  },
}

export const postgresUrl = urlFormat(
  'postgres-url',
  ['postgres:', 'postgresql:'],
  'postgres://user:password@host:5432/database',
)

/** Of RabbitMQ's management API; the password is in a file. */
export const managementUrl: ValueFormat = {
  name: 'management-url',
  coerce: same,
  validate: (value) => {
    const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined
    check(
      url !== undefined &&
        ['http:', 'https:'].includes(url.protocol) &&
        url.username !== '' &&
        url.password === '',
      'must be a URL like https://howdah-management@host:15671, without a password',
    )
  },
}

const UNITS: Record<string, number> = { '': 1, KIB: 1024, MIB: 1024 ** 2, GIB: 1024 ** 3, TIB: 1024 ** 4 }

/** A size: a number of bytes, or text with a binary unit. */
export const bytes: ValueFormat = {
  name: 'bytes',
  coerce: (value) => {
    if (typeof value !== 'string') return value
    const parts = /^(\d+(?:\.\d+)?)\s*([KMGT]iB)?$/i.exec(value.trim())
    const factor = UNITS[(parts?.[2] ?? '').toUpperCase()]
    return parts === null || factor === undefined ? value : Math.round(Number(parts[1]) * factor)
  },
  validate: (value) =>
    check(
      Number.isSafeInteger(value) && (value as number) >= 0,
      'must be a size: bytes, or a number with KiB, MiB, GiB or TiB',
    ),
}

export const seconds: ValueFormat = {
  name: 'seconds',
  coerce: (value) => (typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value),
  validate: (value) =>
    check(
      typeof value === 'number' && Number.isFinite(value) && value > 0,
      'must be a number of seconds above 0',
    ),
}

export const days: ValueFormat = {
  name: 'days',
  coerce: seconds.coerce,
  validate: (value) =>
    check(
      typeof value === 'number' && value > 0 && value <= 3650,
      'must be a number of days above 0, at most 3650',
    ),
}

/** Absolute directories, as a list or as colon-separated text; the list may be empty. */
export const directories: ValueFormat = {
  name: 'directories',
  coerce: (value) => (typeof value === 'string' ? value.split(':').filter((item) => item !== '') : value),
  validate: (value) =>
    check(
      Array.isArray(value) &&
        value.every(
          (item) => typeof item === 'string' && path.isAbsolute(item) && path.normalize(item) === item,
        ),
      'must be a list of absolute paths',
    ),
}

/** Words such as names, addresses or hosts, as a list or as comma-separated text; the list may be empty. */
export const words: ValueFormat = {
  name: 'words',
  coerce: (value) => (typeof value === 'string' ? value.split(',').filter((item) => item !== '') : value),
  validate: (value) =>
    check(
      Array.isArray(value) && value.every((item) => typeof item === 'string' && /^[^\s,]+$/.test(item)),
      'must be a list of texts without spaces and commas',
    ),
}

/** As `directories`, but at least one. */
export const directoryPatterns: ValueFormat = {
  name: 'directory-patterns',
  coerce: (value) => (typeof value === 'string' ? value.split(':') : value),
  validate: (value) =>
    check(
      Array.isArray(value) &&
        value.length > 0 &&
        value.every((item) => typeof item === 'string' && path.isAbsolute(item)),
      'must be a list of absolute paths',
    ),
}

const REPOSITORY_FORMATS = ['pgbackrest', 'barman', 'basebackup']
const REPOSITORY_PATHS = ['path', 'passphraseFile', 'walPath', 'configFile']
const REPOSITORY_KEYS = [
  ...['name', 'format', ...REPOSITORY_PATHS, 'repo', 'linkTargets'],
  ...['verifyChecksums', 'verifyPages'],
]

export const repositories: ValueFormat = {
  name: 'repositories',
  coerce: same,
  validate: (value) => {
    check(Array.isArray(value), 'must be a list of repositories')
    const seen = new Set<string>()
    for (const [index, item] of (value as unknown[]).entries()) {
      check(typeof item === 'object' && item !== null, `[${index}] must be an object`)
      const entry = item as Record<string, unknown>
      for (const key of Object.keys(entry)) {
        check(
          REPOSITORY_KEYS.includes(key),
          `[${index}].${key} is not a key; there are ${REPOSITORY_KEYS.join(', ')}`,
        )
      }
      name.validate(entry.name)
      check(
        REPOSITORY_FORMATS.includes(String(entry.format)),
        `[${index}].format must be one of ${REPOSITORY_FORMATS.join(', ')}`,
      )
      for (const key of REPOSITORY_PATHS) {
        if ((key === 'path' && entry.configFile === undefined) || entry[key] !== undefined) {
          check(
            typeof entry[key] === 'string' && path.isAbsolute(entry[key]),
            `[${index}].${key} must be an absolute path`,
          )
        }
      }
      checkConfigFile(index, entry)
      const { linkTargets } = entry
      check(
        linkTargets === undefined ||
          (Array.isArray(linkTargets) &&
            linkTargets.every((place) => typeof place === 'string' && path.isAbsolute(place))),
        `[${index}].linkTargets must be a list of absolute paths`,
      )
      for (const key of ['verifyChecksums', 'verifyPages']) {
        check(
          entry[key] === undefined || typeof entry[key] === 'boolean',
          `[${index}].${key} must be true or false`,
        )
      }
      check(!seen.has(String(entry.name)), `[${index}].name "${String(entry.name)}" is used twice`)
      seen.add(String(entry.name))
    }
  },
}

/** The backup tool's own configuration has path and passphrase, so they must not be given twice. */
function checkConfigFile(index: number, entry: Readonly<Record<string, unknown>>): void {
  if (entry.configFile === undefined) {
    check(entry.repo === undefined, `[${index}].repo is the number of a repository in configFile`)
    return
  }
  check(entry.format !== 'basebackup', `[${index}].configFile is for the formats pgbackrest and barman`)
  check(
    entry.repo === undefined || entry.format === 'pgbackrest',
    `[${index}].repo is for the format pgbackrest`,
  )
  for (const key of ['path', 'passphraseFile']) {
    check(entry[key] === undefined, `[${index}].${key} is in configFile; give one of them`)
  }
  check(
    entry.repo === undefined ||
      (Number.isInteger(entry.repo) && Number(entry.repo) >= 1 && Number(entry.repo) <= 256),
    `[${index}].repo must be a number from 1 to 256`,
  )
}

const CREDENTIAL_FILES = [
  'passwordFile',
  'privateKeyFile',
  'passphraseFile',
  'knownHostsFile',
  'sslRootCertificate',
]
const CREDENTIAL_TEXTS: Readonly<Record<string, { readonly pattern: RegExp; readonly expectation: string }>> =
  {
    user: { pattern: /^.{1,63}$/, expectation: 'a user name' },
    hostKeyFingerprint: {
      pattern: /^SHA256:[A-Za-z0-9+/]{43}=?$/,
      expectation: 'a fingerprint as "ssh-keygen -l" prints it: SHA256:…',
    },
    sslMode: {
      pattern: /^(disable|allow|prefer|require|verify-ca|verify-full)$/,
      expectation: 'an sslmode of libpq',
    },
  }

/** Credentials by name. The format's own name tells convict to take an object as one value. */
export const credentials: ValueFormat = {
  name: 'object',
  coerce: same,
  validate: (value) => {
    check(
      typeof value === 'object' && value !== null && !Array.isArray(value),
      'must be an object of credentials',
    )
    for (const [key, entry] of Object.entries(value as object)) {
      name.validate(key)
      check(typeof entry === 'object' && entry !== null, `.${key} must be an object`)
      for (const [part, setting] of Object.entries(entry as object)) {
        const text = CREDENTIAL_TEXTS[part]
        if (text) {
          check(
            typeof setting === 'string' && text.pattern.test(setting),
            `.${key}.${part} must be ${text.expectation}`,
          )
        } else {
          const keys = [...Object.keys(CREDENTIAL_TEXTS), ...CREDENTIAL_FILES]
          check(CREDENTIAL_FILES.includes(part), `.${key}.${part} is not a key; there are ${keys.join(', ')}`)
          check(
            typeof setting === 'string' && path.isAbsolute(setting),
            `.${key}.${part} must be an absolute path`,
          )
        }
      }
    }
  },
}
