/** `howdah advance`: moves a paused recovery forward. */
import type { WaitingOptions } from '../options.ts'
import { chosenTarget, type RecoveryOptions, recoveryOptions, TIMES } from '../recovery-target.ts'
import { ask } from '../request.ts'
import { runUntilPublished, untilPublished } from '../until-published.ts'
import { type Call, defineVerb } from '../verb.ts'

interface AdvanceOptions extends WaitingOptions, RecoveryOptions {}

export const advance = defineVerb<AdvanceOptions>({
  name: 'advance',
  summary: 'move a paused recovery forward to a later target',
  description: [
    'For a session that was published with --after-recovery pause, and stands still at its recovery target. Recovery ' +
      'goes on to a later one and stands still there. It cannot go back: "howdah republish" begins anew. The instance ' +
      'is restarted, so that whoever is connected is disconnected.',
  ],
  ...untilPublished,
  options: [...recoveryOptions(undefined), ...untilPublished.options],
  sections: [['TIMES', TIMES]],
  environment: [...untilPublished.environment, ['TZ', 'Time zone of times that name none.']],
  examples: [
    ["howdah advance main-x7 --recover-to 'time=2026-11-22 07:35:00+01'", 'Five minutes further.'],
    ['howdah advance main-x7 --recover-to lsn=0/422AB08', 'To a place in the WAL.'],
  ],
  run: runAdvance,
})

async function runAdvance(call: Call<AdvanceOptions>): Promise<number> {
  const { context, options } = call
  const recoverTo = chosenTarget(options) ?? { type: 'latest' }
  if (options.recoverTo?.remark !== undefined) context.stderr.line(options.recoverTo.remark)
  return runUntilPublished(call, {
    verb: 'advance',
    doing: 'Moving forward: session',
    send: (bus, session, signal) => ask(bus, 'session.advance', { session, recoverTo }, { signal }),
    steps: ['recover'],
    needsStep: () => true,
  })
}
