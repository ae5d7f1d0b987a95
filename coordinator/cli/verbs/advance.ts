/** `howdah advance`: moves a paused recovery forward. */
import type { WaitingOptions } from '../options.ts'
import { chosenTarget, type RecoveryOptions, recoveryOptions, TIMES } from '../recovery-target.ts'
import { sendCommand } from '../request.ts'
import { runUntilPublished, untilPublished } from '../until-published.ts'
import { type Call, defineVerb } from '../verb.ts'

interface AdvanceOptions extends WaitingOptions, RecoveryOptions {}

export const advance = defineVerb<AdvanceOptions>({
  name: 'advance',
  summary: 'move a paused recovery forward to a later target',
  description: [
    'Applies to a session that was published with --after-recovery pause and is paused at its recovery target. ' +
      'Recovery resumes and pauses again at the later target. It cannot go back: use "howdah republish" for an ' +
      'earlier state. The instance is restarted, which disconnects its clients.',
  ],
  ...untilPublished,
  options: [...recoveryOptions(undefined), ...untilPublished.options],
  sections: [['TIMES', TIMES]],
  environment: [...untilPublished.environment, ['TZ', 'Time zone of times that are given without one.']],
  examples: [
    ["howdah advance main-x7 --recover-to 'time=2026-11-22 07:35:00+01'", 'Recover up to 07:35.'],
    ['howdah advance main-x7 --recover-to lsn=0/422AB08', 'Recover up to an LSN.'],
  ],
  run: runAdvance,
})

async function runAdvance(call: Call<AdvanceOptions>): Promise<number> {
  const { context, options } = call
  const recoverTo = chosenTarget(options) ?? { type: 'latest' }
  if (options.recoverTo?.remark !== undefined) context.stderr.line(options.recoverTo.remark)
  return runUntilPublished(call, {
    verb: 'advance',
    doing: 'Advancing session',
    send: (bus, session, options) => sendCommand(bus, 'session.advance', { session, recoverTo }, options),
    steps: ['recover'],
    needsStep: () => true,
  })
}
