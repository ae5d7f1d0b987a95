/**
 * The keys that an operator has, offered to a server as OpenSSH does: those of the ssh-agent that the configuration names,
 * its other ones, then key files. A passphrase is asked for only once the server has accepted the key that it protects.
 */
import ssh2, {
  type IdentityCallback,
  type ParsedKey,
  type PublicKeyEntry,
  type SignCallback,
  type SigningRequestOptions,
} from 'ssh2'
import { type KeyFile, readKeyFile } from './key-file.ts'
import type { HostSettings } from './openssh-configuration.ts'
import type { Secrets } from './secrets.ts'

/** An ssh-agent that is forwarded over a dead connection never answers. */
const AGENT_DEADLINE_MS = 5_000
/** An ssh-agent may ask its owner for a confirmation, or for a touch of a token. */
const SIGN_DEADLINE_MS = 60_000
const PASSPHRASE_ATTEMPTS = 3

export interface IdentitiesOptions {
  readonly settings: Pick<HostSettings, 'identityFiles' | 'identitiesOnly' | 'agentSocket'>
  readonly secrets: Secrets
  /** Tells what was the matter with a key. */
  readonly note: (text: string) => void
  /** Called around questions to the operator, who may take any time. */
  readonly pausing: <T>(work: () => Promise<T>) => Promise<T>
}

interface Identity {
  readonly publicKey: Buffer
  sign(data: Buffer, options: SigningRequestOptions): Promise<Buffer>
}

/** As ssh2 takes an ssh-agent. */
export class Identities extends ssh2.BaseAgent {
  readonly #options: IdentitiesOptions
  #identities: Promise<Identity[]> | undefined
  /** Keys that the server accepted, for the error when a signature was not possible. */
  offered = 0

  constructor(options: IdentitiesOptions) {
    super()
    this.#options = options
  }

  override getIdentities(callback: IdentityCallback<Buffer>): void {
    this.#identities ??= collect(this.#options)
    this.#identities.then(
      (found) => {
        this.offered = found.length
        callback(
          null,
          found.map(({ publicKey }) => publicKey),
        )
      },
      (error: Error) => callback(error),
    )
  }

  override sign(
    key: Buffer | ParsedKey | PublicKeyEntry | string,
    data: Buffer,
    options: SigningRequestOptions | SignCallback,
    callback?: SignCallback,
  ): void {
    const done = typeof options === 'function' ? options : callback
    const wanted = (key as ParsedKey).getPublicSSH()
    const signing = async (): Promise<Buffer> => {
      const identity = (await this.#identities)?.find(({ publicKey }) => publicKey.equals(wanted))
      if (identity === undefined) throw new Error('there is no such key')
      return identity.sign(data, typeof options === 'function' ? {} : options)
    }
    signing().then(
      (signature) => done?.(null, signature),
      (error: Error) => {
        this.#options.note(error.message)
        done?.(error)
      },
    )
  }
}

async function collect(options: IdentitiesOptions): Promise<Identity[]> {
  const { settings, note } = options
  const files = settings.identityFiles.flatMap((path) => {
    try {
      return readKeyFile(path) ?? []
    } catch (error) {
      note(`a key is left out: ${(error as Error).message}`)
      return []
    }
  })
  const held = await agentIdentities(options)
  const isNamed = ({ publicKey }: Identity): boolean =>
    files.some((file) => file.publicKey?.equals(publicKey))
  const fromAgent = [
    ...held.filter(isNamed),
    ...(settings.identitiesOnly ? [] : held.filter((identity) => !isNamed(identity))),
  ]
  const own = files.filter((file) => !fromAgent.some(({ publicKey }) => file.publicKey?.equals(publicKey)))
  return [...fromAgent, ...(await Promise.all(own.map((file) => fileIdentity(file, options)))).flat()]
}

/** Those of the ssh-agent. */
async function agentIdentities({ settings, note, pausing }: IdentitiesOptions): Promise<Identity[]> {
  if (settings.agentSocket === undefined) return []
  const agent = ssh2.createAgent(settings.agentSocket)
  try {
    const keys = await within<readonly unknown[]>(
      AGENT_DEADLINE_MS,
      'the ssh-agent does not answer',
      (done) => agent.getIdentities((error, found) => done(error, found)),
    )
    return keys.flatMap((entry): Identity[] => {
      const parsed = ssh2.utils.parseKey(entry as Buffer)
      if (parsed instanceof Error) return []
      const sign = (data: Buffer, options: SigningRequestOptions): Promise<Buffer> =>
        pausing(() =>
          within(SIGN_DEADLINE_MS, 'the ssh-agent does not sign', (done) =>
            agent.sign(parsed, data, options, (error, signature) => done(error, signature)),
          ),
        )
      return [{ publicKey: parsed.getPublicSSH(), sign }]
    })
  } catch (error) {
    note(`the ssh-agent of ${settings.agentSocket} is of no use: ${(error as Error).message}`)
    return []
  }
}

/** None if only the passphrase reveals which key it is, and nobody can be asked for it. */
async function fileIdentity(file: KeyFile, options: IdentitiesOptions): Promise<Identity[]> {
  let opened: ParsedKey | undefined
  const open = async (): Promise<ParsedKey> => {
    opened ??= file.encrypted ? await decrypt(file, options) : file.open()
    return opened
  }
  try {
    const publicKey = file.publicKey ?? (await open()).getPublicSSH()
    return [
      {
        publicKey,
        async sign(data, { hash }) {
          const signature = (await open()).sign(data, hash)
          if (signature instanceof Error) throw signature
          return signature
        },
      },
    ]
  } catch (error) {
    options.note((error as Error).message)
    return []
  }
}

async function decrypt(file: KeyFile, { secrets, note, pausing }: IdentitiesOptions): Promise<ParsedKey> {
  const key = `passphrase ${file.path}`
  for (let attempt = 1; ; attempt += 1) {
    const passphrase = await pausing(() => secrets.get(key, `Enter passphrase for key '${file.path}': `))
    try {
      return file.open(passphrase)
    } catch (error) {
      secrets.forget(key)
      if (attempt === PASSPHRASE_ATTEMPTS) throw new Error(`${(error as Error).message} (wrong passphrase?)`)
      note(`Wrong passphrase for ${file.path}.`)
    }
  }
}

function within<T>(
  ms: number,
  late: string,
  begin: (done: (error: Error | null | undefined, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${late} within ${ms / 1000} s`)), ms)
    begin((error, value) => {
      clearTimeout(timer)
      if (error) reject(error)
      else resolve(value as T)
    })
  })
}
