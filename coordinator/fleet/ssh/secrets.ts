/**
 * Passwords and passphrases of one run of the program: each is asked for once, kept in memory, and forgotten when it was
 * wrong. They are never written, logged, or given to a program as an argument or in its environment.
 */
import { HowdahError } from '../../../messages/errors.ts'

/** Whoever sits at the terminal. */
export interface Prompter {
  /** Asks without showing what is typed. @throws when interrupted */
  secret(text: string): Promise<string>
  /** @throws when interrupted */
  confirm(text: string): Promise<boolean>
}

export interface Secrets {
  /** Whether there is anybody to ask. */
  readonly canAsk: boolean
  /**
   * The secret of that key, asked for if it is not known yet. Questions come one after another.
   * @throws HowdahError `unauthorized` when there is nobody to ask
   */
  get(key: string, question: string): Promise<string>
  /** What is of use once only, as a code. @throws as `get` */
  once(question: string): Promise<string>
  /** What is known without asking. */
  known(key: string): string | undefined
  /** It was wrong: the next `get` asks again. */
  forget(key: string): void
  /** A yes or no; undefined: there is nobody to ask. */
  confirm(question: string): Promise<boolean | undefined>
}

export function createSecrets(prompter: Prompter | undefined): Secrets {
  const secrets = new Map<string, string>()
  let last: Promise<unknown> = Promise.resolve()

  /** Several hosts may be connected to at once; a person answers one question at a time. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = last.then(work, work)
    last = mine.catch(() => undefined)
    return mine
  }

  function ask(question: string): Promise<string> {
    if (prompter !== undefined) return prompter.secret(question)
    throw new HowdahError(
      'unauthorized',
      `there is no terminal to ask on: "${question.replace(/:\s*$/, '')}". Without one use a key in ssh-agent, and NOPASSWD in sudoers.`,
    )
  }

  return {
    canAsk: prompter !== undefined,
    get: (key, question) =>
      inTurn(async () => {
        const known = secrets.get(key)
        if (known !== undefined) return known
        const given = await ask(question)
        secrets.set(key, given)
        return given
      }),
    once: (question) => inTurn(async () => ask(question)),
    known: (key) => secrets.get(key),
    forget: (key) => void secrets.delete(key),
    confirm: (question) => inTurn(async () => prompter?.confirm(question)),
  }
}
