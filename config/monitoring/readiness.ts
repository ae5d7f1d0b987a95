/** Whether a role is ready: every part that it needs works. A part that does not answer in time does not work. */

/** What is wrong with a part, for a person; undefined: nothing. Has to name no secret: whoever reaches the endpoint reads it. */
export type Look = () => string | undefined | Promise<string | undefined>

export interface Problem {
  readonly part: string
  readonly problem: string
}

export interface Readiness {
  check(part: string, look: Look): void
  /** The role has started: from now on its parts decide. */
  started(): void
  /** The role stops: it is not ready any more. */
  stopping(): void
  /** What is not ready, in the order of the checks; never rejects, and answers within `LOOK_MS`. */
  problems(): Promise<Problem[]>
}

/** How long a part may take to answer. Milliseconds. */
const LOOK_MS = 2_000

export function createReadiness(): Readiness {
  const parts: { readonly part: string; readonly look: Look }[] = []
  let phase: 'starting' | 'started' | 'stopping' = 'starting'

  return {
    check(part, look) {
      parts.push({ part, look })
    },
    started() {
      if (phase === 'starting') phase = 'started'
    },
    stopping() {
      phase = 'stopping'
    },
    async problems() {
      const looks = parts.map(async ({ part, look }) => {
        const problem = await problemOf(look)
        return problem === undefined ? [] : [{ part, problem }]
      })
      const found = (await Promise.all(looks)).flat()
      if (phase === 'started') return found
      const problem = phase === 'starting' ? 'the role has not started yet' : 'the role is stopping'
      return [{ part: 'role', problem }, ...found]
    },
  }
}

async function problemOf(look: Look): Promise<string | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<string>()
  const timer = setTimeout(() => resolve(`no answer within ${LOOK_MS / 1000} s`), LOOK_MS)
  try {
    return await Promise.race([look(), late])
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    clearTimeout(timer)
  }
}
