/** A host that a verb works on over SSH: the connection, and how to be root there. */
import { homedir, userInfo } from 'node:os'
import { HowdahError } from '../../../messages/errors.ts'
import { formatSshAddress, type SshAddress } from '../../fleet/ssh/address.ts'
import { connectSsh, type SshConnection } from '../../fleet/ssh/connection.ts'
import { type RootShell, rootShell } from '../../fleet/ssh/elevation.ts'
import { hostSettings } from '../../fleet/ssh/openssh-configuration.ts'
import { createSecrets, type Secrets } from '../../fleet/ssh/secrets.ts'
import type { Context } from '../context.ts'
import { printable } from '../terminal.ts'
import { InvalidValue, UsageError } from '../usage-error.ts'
import type { VerbDescription } from '../verb-description.ts'
import { parseHost, type SshOptions } from './options.ts'

export interface RemoteHost extends AsyncDisposable {
  /** As it was given. */
  readonly address: SshAddress
  readonly connection: SshConnection
  /** Undefined: the login cannot become root, for that reason. */
  readonly root: RootShell | undefined
  readonly rootProblem: string
}

export interface HostAccess {
  /** @throws HowdahError `unauthorized` | `operation_failed` | `configuration` */
  open(address: SshAddress, options: SshOptions): Promise<RemoteHost>
}

/** What all hosts of one call share: passwords are asked for once. */
export function hostAccess(context: Context, signal: AbortSignal): HostAccess {
  const secrets = createSecrets(prompterOf(context))
  const note = (text: string): void => context.stderr.line(printable(text))
  return { open: (address, options) => openHost({ context, options, secrets, note, signal }, address) }
}

interface Opening {
  readonly context: Context
  readonly options: SshOptions
  readonly secrets: Secrets
  readonly note: (text: string) => void
  readonly signal: AbortSignal
}

async function openHost(opening: Opening, address: SshAddress): Promise<RemoteHost> {
  const { context, options, secrets, note, signal } = opening
  const [home, user] = [context.env.HOME || homedir(), userInfo().username]
  const connection = await connectSsh(address, {
    jumps: options.J,
    fingerprint: options.fingerprint,
    settingsOf: (host) => hostSettings(host, { home, user, env: context.env }),
    ...{ secrets, note, signal },
  })
  let root: RootShell | undefined
  let rootProblem = ''
  try {
    root = await rootShell(connection, { become: options.become, secrets, note, signal })
    // So that what sudo has against it is known now, before anything else.
    await root.run(':', { signal, deadlineMs: 60_000 })
  } catch (error) {
    if (!(error instanceof HowdahError) || error.code !== 'unauthorized') {
      connection.close()
      throw error
    }
    root = undefined
    rootProblem = error.message
  }
  return { address, connection, root, rootProblem, [Symbol.asyncDispose]: async () => connection.close() }
}

function prompterOf({ question, secret }: Context) {
  return question === undefined || secret === undefined ? undefined : { confirm: question, secret }
}

/** The shell of root. @throws HowdahError `unauthorized` */
export function rootOf({ root, rootProblem }: RemoteHost): RootShell {
  if (root === undefined) throw new HowdahError('unauthorized', rootProblem)
  return root
}

/** The hosts that were given as arguments. @throws UsageError */
export function hostsOf(words: readonly string[], verb: VerbDescription): SshAddress[] {
  return words.map((word) => {
    try {
      return parseHost(word)
    } catch (error) {
      if (error instanceof InvalidValue)
        throw new UsageError(`HOST: "${word}" is wrong, it must be ${error.message}`, verb)
      throw error
    }
  })
}

export const shownHost = formatSshAddress
