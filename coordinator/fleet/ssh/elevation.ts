/** How a login becomes root on a host: it is root, or sudo, or su. */
import { HowdahError } from '../../../messages/errors.ts'
import { loginSecret } from './authentication.ts'
import type { SshConnection } from './connection.ts'
import { type Completed, type Elevation, runScript, type ScriptOptions } from './remote-script.ts'
import type { Secrets } from './secrets.ts'

export type Become = 'root' | 'sudo' | 'su'

export interface RootShell {
  readonly how: Become
  /** Runs a script as root. @throws HowdahError `unauthorized` (what sudo or su said) | as `runScript` */
  run(script: string, options: ScriptOptions): Promise<Completed>
}

export interface RootOptions {
  /** Undefined: root if the login is root, else sudo if it is there, else su. */
  readonly become: 'sudo' | 'su' | undefined
  readonly secrets: Secrets
  readonly note: (text: string) => void
  readonly signal: AbortSignal
}

const LOOK_DEADLINE_MS = 30_000
/** As sudo and login programs have it; further ones may lock the account. */
const PASSWORD_ATTEMPTS = 3

/** Looks how the user of this connection can become root. @throws HowdahError `unauthorized`: not at all */
export async function rootShell(connection: SshConnection, options: RootOptions): Promise<RootShell> {
  const { signal, secrets, become } = options
  const look = 'id -u; for p in sudo su; do command -v $p >/dev/null && echo $p; done; :'
  const { stdout } = await runScript(connection, look, { signal, deadlineMs: LOOK_DEADLINE_MS })
  const [uid, ...programs] = stdout.trim().split('\n')
  if (uid === '0') return { how: 'root', run: (script, run) => runScript(connection, script, run) }
  const { user } = connection.settings
  if (become !== undefined && !programs.includes(become))
    throw new HowdahError('unauthorized', `${become} is not installed on ${connection.name}`)
  if (become === 'sudo' || (become === undefined && programs.includes('sudo')))
    return elevated(connection, 'sudo', sudo(connection, options))
  if (programs.includes('su') && (secrets.canAsk || become === 'su'))
    return elevated(connection, 'su', su(connection, options))
  throw new HowdahError(
    'unauthorized',
    `"${user}" is not root on ${connection.name}, and sudo is not installed there. Log in as root, install sudo, or run this on a terminal, where the password of root can be asked for (su).`,
  )
}

function elevated(connection: SshConnection, how: Become, elevation: () => Elevation): RootShell {
  return {
    how,
    async run(script, options) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await runScript(connection, script, options, elevation())
        } catch (error) {
          if (!(error instanceof WrongPassword) || attempt >= PASSWORD_ATTEMPTS) throw error
        }
      }
    },
  }
}

/** Asked again in a new attempt: su asks only once. */
class WrongPassword extends HowdahError {
  constructor(message: string) {
    super('unauthorized', message)
  }
}

/** With -S it reads the password from standard input, and asks with the prompt of -p; without a question it needs none. */
function sudo(connection: SshConnection, { secrets, note }: RootOptions): () => Elevation {
  const { user } = connection.settings
  const shown = `${user}@${connection.settings.alias}`
  const key = `sudo ${shown}`
  let isLoginRefused = false
  return () => ({
    prefix: (prompt) => `env LC_ALL=C sudo ${secrets.canAsk ? `-S -p '${prompt}'` : '-n'} -- `,
    isQuestion: (said, prompt) => said.endsWith(prompt),
    async answer(questions) {
      if (!secrets.canAsk || questions > PASSWORD_ATTEMPTS) return undefined
      // PAM asks for the same password, so whoever logged in with it is not asked twice.
      const login = isLoginRefused ? undefined : secrets.known(loginSecret(shown))
      const known = secrets.known(key) ?? login
      if (questions === 1 && known !== undefined) return known
      if (questions > 1 && secrets.known(key) === undefined) isLoginRefused = true
      else if (questions > 1) {
        secrets.forget(key)
        note(`sudo on ${connection.name}: wrong password.`)
      }
      return secrets.get(key, `[sudo] password for ${shown}: `)
    },
    refusal: (said) => sudoRefusal(connection, said, secrets.canAsk),
  })
}

function sudoRefusal({ name, settings }: SshConnection, said: string, canAsk: boolean): HowdahError {
  const { user } = settings
  const error = (what: string): HowdahError => new HowdahError('unauthorized', `sudo on ${name}: ${what}`)
  if (/must have a tty|no tty present/.test(said) && /tty to run sudo/.test(said))
    return error(
      `it wants a terminal (requiretty). Add "Defaults:${user} !requiretty" to its sudoers, or log in as root.`,
    )
  if (/not in the sudoers|may not run sudo|not allowed to (execute|run)/.test(said))
    return error(
      `"${user}" may not become root. Add the user to its sudoers, log in as another one, or use --become su.`,
    )
  if (/password is required|no password was provided/.test(said) && !canAsk)
    return error(
      `it asks for a password, and there is no terminal to ask on. Run this on one, or allow "${user}" NOPASSWD.`,
    )
  if (/incorrect password|password attempt|Sorry, try again|no password was provided/.test(said))
    return error(`the password of "${user}" was refused.`)
  if (/setuid root|effective uid is not 0|no new privileges/.test(said))
    return error(`it cannot become root there: ${said}`)
  return error(said === '' ? 'it ended without a word.' : said)
}

/** Asks for the password of root, on standard error, without echo where that is no terminal. */
function su(connection: SshConnection, { secrets, note }: RootOptions): () => Elevation {
  const key = `su ${connection.name}`
  return () => ({
    prefix: () => `env LC_ALL=C su -s /bin/sh -c 'exec "$@"' -- root sh `,
    isQuestion: (said) => /password: ?$/i.test(said),
    answer: async (questions) =>
      questions > 1 || !secrets.canAsk
        ? undefined
        : secrets.get(key, `Password of root on ${connection.settings.alias}: `),
    refusal(said) {
      secrets.forget(key)
      if (/must be run from a terminal/.test(said))
        return new HowdahError(
          'unauthorized',
          `su on ${connection.name} wants a terminal; install sudo there, or log in as root.`,
        )
      if (!/failure|incorrect|denied/i.test(said))
        return new HowdahError(
          'unauthorized',
          `su on ${connection.name}: ${said === '' ? 'it ended without a word' : said}`,
        )
      note(`su on ${connection.name}: wrong password.`)
      return new WrongPassword(`su on ${connection.name}: the password of root was refused.`)
    },
  })
}
