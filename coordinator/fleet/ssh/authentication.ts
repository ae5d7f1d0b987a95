/** How a login proceeds: first keys, then what the server asks at the keyboard, then a password, as OpenSSH does. */
import type { AnyAuthMethod, AuthenticationType, AuthHandlerMiddleware, NextAuthHandler, Prompt } from 'ssh2'
import type { Identities } from './identities.ts'
import type { Secrets } from './secrets.ts'

/** As NumberOfPasswordPrompts of ssh_config(5). */
const ATTEMPTS = 3

export interface AuthenticationOptions {
  readonly user: string
  /** `user@host`, as questions show it. */
  readonly shown: string
  readonly identities: Identities
  readonly secrets: Secrets
  /** Called around questions to the operator, who may take any time. */
  readonly pausing: <T>(work: () => Promise<T>) => Promise<T>
  /** A question that failed, because of an interruption or because there is nobody to ask. */
  readonly failed: (error: unknown) => void
}

export interface Authentication {
  readonly handler: AuthHandlerMiddleware
  /** The methods that the server offered at last. */
  offered(): readonly string[]
  /** Whether a password or an answer was sent. */
  askedForPassword(): boolean
}

/** The key under which the password of a login is kept. */
export const loginSecret = (shown: string): string => `login ${shown}`

export function createAuthentication(options: AuthenticationOptions): Authentication {
  const { user, shown, identities, secrets, pausing, failed } = options
  let offered: readonly AuthenticationType[] = []
  let keysTried = false
  let keyboardAttempts = 0
  let passwordAttempts = 0
  /** The password was tried already: what was wrong once is asked for again. */
  let usedPassword = false

  async function password(question: string): Promise<string> {
    if (usedPassword) secrets.forget(loginSecret(shown))
    usedPassword = true
    return pausing(() => secrets.get(loginSecret(shown), question))
  }

  async function answer(name: string, instructions: string, prompts: readonly Prompt[]): Promise<string[]> {
    const answers: string[] = []
    for (const { prompt } of prompts) {
      const text = [name, instructions, `(${shown}) ${prompt}`]
        .filter((line) => line.trim() !== '')
        .join('\n')
      // One question without echo for the password is what PAM asks; anything else, as a code, is of use once only.
      if (/password/i.test(prompt)) answers.push(await password(text))
      else answers.push(await pausing(() => secrets.once(text)))
    }
    return answers
  }

  const keyboard: AnyAuthMethod = {
    type: 'keyboard-interactive',
    username: user,
    prompt: (name, instructions, _language, prompts, finish) => {
      answer(name, instructions, prompts).then(finish, (error: unknown) => failed(error))
    },
  }

  function next(proceed: NextAuthHandler): AnyAuthMethod | false | undefined {
    if (offered.includes('publickey') && !keysTried) {
      keysTried = true
      return { type: 'agent', username: user, agent: identities }
    }
    if (!secrets.canAsk) return false
    if (offered.includes('keyboard-interactive') && keyboardAttempts < ATTEMPTS) {
      keyboardAttempts += 1
      return keyboard
    }
    if (offered.includes('password') && passwordAttempts < ATTEMPTS) {
      passwordAttempts += 1
      password(`${shown}'s password: `).then(
        (given) => proceed({ type: 'password', username: user, password: given }),
        failed,
      )
      return undefined
    }
    return false
  }

  return {
    handler: ((left: AuthenticationType[] | null, _partial: boolean, proceed: NextAuthHandler) => {
      if (left === null) return { type: 'none', username: user }
      offered = left
      return next(proceed)
    }) as unknown as AuthHandlerMiddleware,
    offered: () => offered,
    askedForPassword: () => usedPassword,
  }
}
