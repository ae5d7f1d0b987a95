/** A connection to a host: through its jump hosts, to the server that it should be, as the user that may. */
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import ssh2, { type ClientChannel, type ConnectConfig } from 'ssh2'
import { HowdahError } from '../../../messages/errors.ts'
import { formatSshAddress, parseSshAddress, type SshAddress } from './address.ts'
import { createAuthentication } from './authentication.ts'
import { createHostKeyCheck } from './host-keys.ts'
import { Identities } from './identities.ts'
import type { HostSettings } from './openssh-configuration.ts'
import type { Secrets } from './secrets.ts'

export interface SshConnection {
  /** `user@host[:port]` */
  readonly name: string
  readonly settings: HostSettings
  /** Aborted when the connection is lost; the reason is an Error. */
  readonly lost: AbortSignal
  /** Starts a command, given to the user's login shell. @throws HowdahError `operation_failed` */
  execute(command: string): Promise<ClientChannel>
  close(): void
}

export interface ConnectOptions {
  /** Jump hosts of the command line; undefined: those of OpenSSH's configuration. */
  readonly jumps: readonly SshAddress[] | undefined
  /** Of the host itself, as `SHA256:…`; jump hosts are checked as usual. */
  readonly fingerprint: string | undefined
  readonly settingsOf: (address: SshAddress) => HostSettings
  readonly secrets: Secrets
  /** Tells the operator something beside the result. */
  readonly note: (text: string) => void
  readonly signal: AbortSignal
  /** Of connecting and of each answer of the server, not of what the operator is asked. Default: 30 s. */
  readonly deadlineMs?: number
  /** A connection on which three of these stay unanswered is lost. Default: 10 s. */
  readonly keepaliveMs?: number
}

const DEADLINE_MS = 30_000
const KEEPALIVE_MS = 10_000
const KEEPALIVES_MISSED = 3
const MAX_JUMPS = 8
/** All that ssh2 verifies but ssh-dss and RSA with SHA-1, best first. */
const HOST_KEY_ALGORITHMS = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
]

type Client = InstanceType<typeof ssh2.Client>

/** @throws HowdahError `unauthorized` (host key, login) | `operation_failed` (unreachable, lost) | `configuration` */
export async function connectSsh(address: SshAddress, options: ConnectOptions): Promise<SshConnection> {
  const settings = options.settingsOf(address)
  for (const text of settings.notes) options.note(text)
  const route = routeTo(settings, options)
  const clients: Client[] = []
  const end = (): void => {
    for (const client of clients.toReversed()) client.destroy()
  }
  options.signal.addEventListener('abort', end, { once: true })
  try {
    for (const [index, hop] of route.entries()) {
      const before = clients.at(-1)
      const sock = before && (await forward(before, hop, route[index - 1]))
      clients.push(
        await login(hop, sock, {
          ...options,
          fingerprint: hop === settings ? options.fingerprint : undefined,
        }),
      )
    }
    return connectionOf(settings, clients, () => {
      options.signal.removeEventListener('abort', end)
      for (const client of clients.toReversed()) client.end()
    })
  } catch (error) {
    options.signal.removeEventListener('abort', end)
    end()
    options.signal.throwIfAborted()
    throw error
  }
}

/** The hosts to connect to one through the other; the last one is the host itself. */
function routeTo(
  settings: HostSettings,
  { jumps, settingsOf }: Pick<ConnectOptions, 'jumps' | 'settingsOf'>,
): HostSettings[] {
  const given = jumps ?? settings.jumps.map((text) => jumpAddress(text, settings))
  const hops = given.map((jump) => settingsOf(jump))
  const first = hops[0]
  // The first one may itself be reached through others only, by the configuration.
  const before =
    first === undefined || first.jumps.length === 0
      ? []
      : routeTo(first, { jumps: undefined, settingsOf }).slice(0, -1)
  const route = [...before, ...hops, settings]
  if (route.length > MAX_JUMPS + 1)
    throw new HowdahError('configuration', `more than ${MAX_JUMPS} jump hosts lead to ${settings.alias}`)
  return route
}

function jumpAddress(text: string, { alias }: HostSettings): SshAddress {
  const address = parseSshAddress(text)
  if (address === undefined || address.host === alias)
    throw new HowdahError(
      'configuration',
      `OpenSSH's configuration has no valid ProxyJump for ${alias}: ${text}`,
    )
  return address
}

async function forward(client: Client, to: HostSettings, from: HostSettings | undefined): Promise<Readable> {
  return new Promise((resolve, reject) => {
    const lost = (): void => reject(failure(`the connection to the jump host ${from?.alias} was lost`))
    client.once('close', lost)
    client.forwardOut('127.0.0.1', 0, to.host, to.port, (error, channel) => {
      client.off('close', lost)
      if (error) reject(failure(`the jump host ${from?.alias} does not reach ${to.host}:${to.port}`, error))
      else resolve(channel)
    })
  })
}

type LoginOptions = Omit<ConnectOptions, 'jumps' | 'settingsOf'>

async function login(
  settings: HostSettings,
  sock: Readable | undefined,
  options: LoginOptions,
): Promise<Client> {
  const { secrets, note, signal, fingerprint, deadlineMs = DEADLINE_MS, keepaliveMs = KEEPALIVE_MS } = options
  signal.throwIfAborted()
  const { host, port, user } = settings
  const shown = formatSshAddress({ host: settings.alias, user })
  const where = formatSshAddress({ host, port })
  const client = new ssh2.Client()
  const { promise: ended, reject: fail } = Promise.withResolvers<never>()
  ended.catch(() => undefined)
  const deadline = createDeadline(deadlineMs, () =>
    fail(failure(`${where} did not answer within ${deadlineMs / 1000} s`)),
  )
  const hostKey = createHostKeyCheck({ settings, fingerprint, secrets, note, supported: HOST_KEY_ALGORITHMS })
  const identities = new Identities({ settings, secrets, note, pausing: deadline.pausing })
  const authentication = createAuthentication({
    ...{ user, shown, identities, secrets, failed: fail },
    pausing: deadline.pausing,
  })
  const config: ConnectConfig = {
    ...{ host, port, username: user, readyTimeout: 0 },
    ...(sock !== undefined && { sock }),
    keepaliveInterval: keepaliveMs,
    keepaliveCountMax: KEEPALIVES_MISSED,
    algorithms: {
      serverHostKey: [...hostKey.algorithms] as NonNullable<ConnectConfig['algorithms']>['serverHostKey'] &
        object,
    },
    authHandler: authentication.handler,
    hostVerifier: (key: Buffer, verified: (accepted: boolean) => void) => {
      deadline
        .pausing(() => hostKey.verify(key))
        .then(
          () => verified(true),
          (error: unknown) => {
            fail(error)
            verified(false)
          },
        )
    },
  }
  client.on('error', (error: Error & { level?: string }) => {
    // Of one key; the login goes on with the next.
    if (error.level === 'agent') return
    if (error.level === 'client-authentication') fail(refused())
    else fail(failure(`${where} cannot be reached`, error))
  })
  client.on('close', () => fail(failure(`${where} closed the connection before the login`)))
  const refused = (): HowdahError => {
    const methods = authentication.offered().join(', ')
    const tried = `${identities.offered === 0 ? 'no key' : `${identities.offered} of your keys`}${authentication.askedForPassword() ? ' and a password' : ''}`
    return new HowdahError(
      'unauthorized',
      `${where} refuses the login of "${user}" (it accepts: ${methods}; tried: ${tried}). Add your public key to ~${user}/.ssh/authorized_keys there, or name the right user and IdentityFile.`,
    )
  }
  try {
    client.connect(config)
    await Promise.race([once(client, 'ready'), ended])
    return client
  } catch (error) {
    client.destroy()
    throw error
  } finally {
    deadline.stop()
  }
}

/** Counts only while the operator is not asked anything. */
function createDeadline(ms: number, expire: () => void) {
  let timer = setTimeout(expire, ms)
  let questions = 0
  return {
    stop: () => clearTimeout(timer),
    async pausing<T>(work: () => Promise<T>): Promise<T> {
      questions += 1
      clearTimeout(timer)
      try {
        return await work()
      } finally {
        questions -= 1
        if (questions === 0) {
          clearTimeout(timer)
          timer = setTimeout(expire, ms)
        }
      }
    },
  }
}

function connectionOf(settings: HostSettings, clients: readonly Client[], close: () => void): SshConnection {
  const { alias: host, user, port } = settings
  const name = formatSshAddress({ host, user, port })
  const lost = new AbortController()
  for (const client of clients) {
    client.on('error', (error) => lost.abort(failure(`the connection to ${name} was lost`, error)))
    client.on('close', () => lost.abort(failure(`the connection to ${name} was lost`)))
  }
  const client = clients.at(-1)
  return {
    ...{ name, settings, lost: lost.signal, close },
    execute: (command) =>
      new Promise((resolve, reject) => {
        const onLost = (): void => reject(lost.signal.reason)
        if (lost.signal.aborted || client === undefined) return onLost()
        lost.signal.addEventListener('abort', onLost, { once: true })
        client.exec(command, (error, channel) => {
          lost.signal.removeEventListener('abort', onLost)
          if (error) reject(failure(`${name} runs no commands`, error))
          else resolve(channel)
        })
      }),
  }
}

function failure(what: string, cause?: Error): HowdahError {
  return new HowdahError('operation_failed', cause === undefined ? what : `${what}: ${cause.message}`, {
    cause,
  })
}
