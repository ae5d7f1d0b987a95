/**
 * Reports which sessions are present on an agent: when that has changed, and again after long, so that a coordinator whose
 * store lost some learns of them.
 */
import type { Logger } from 'pino'
import type { EventBody } from '../../messages/definitions.ts'
import { createOutageLog } from '../../messages/outage-log.ts'

export type Presence = Pick<EventBody<'agent.sessions'>, 'sessions' | 'more'>

export interface PresenceReportOptions {
  /** Their ids. */
  readonly list: () => Promise<readonly string[]>
  readonly report: (presence: Presence) => Promise<void>
  /** Milliseconds between looks; default: a minute. */
  readonly everyMs?: number
  /** Milliseconds after which the same is reported again; default: ten minutes. */
  readonly repeatMs?: number
  readonly logger: Logger
}

/** Ids that one report lists. */
const MAX_LISTED = 1_000

/** Looks at once, and from then on. */
export function startPresenceReport(options: PresenceReportOptions): { close(): void } {
  const { list, report, everyMs = 60_000, repeatMs = 600_000, logger } = options
  let reported: string | undefined
  let reportedAt = 0
  let timer: NodeJS.Timeout | undefined
  let closed = false
  const outage = createOutageLog({
    logger,
    failing: 'the sessions that are present were not reported',
    again: 'the sessions that are present are reported again',
  })

  async function look(): Promise<void> {
    const ids = [...(await list())].sort()
    const text = ids.join(' ')
    if (text === reported && Date.now() - reportedAt < repeatMs) return
    const more = ids.length - MAX_LISTED
    await report({ sessions: ids.slice(0, MAX_LISTED), ...(more > 0 && { more }) })
    reported = text
    reportedAt = Date.now()
  }

  function run(): void {
    look()
      .then(() => outage.works(), outage.failed)
      .finally(() => {
        if (!closed) timer = setTimeout(run, everyMs)
      })
  }

  run()
  return {
    close() {
      closed = true
      clearTimeout(timer)
    },
  }
}
