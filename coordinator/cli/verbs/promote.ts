/** `howdah promote`: ends a paused recovery. */
import type { WaitingOptions } from '../options.ts'
import { ask } from '../request.ts'
import { runUntilPublished, untilPublished } from '../until-published.ts'
import { defineVerb } from '../verb.ts'

export const promote = defineVerb<WaitingOptions>({
  name: 'promote',
  summary: 'end a paused recovery: the instance becomes writable',
  description: [
    'For a session that was published with --after-recovery pause, and stands still at its recovery target, ' +
      'read-only. Recovery ends there, and the instance becomes writable. There is no way back, but "howdah ' +
      'republish" to the same target.',
  ],
  ...untilPublished,
  examples: [['howdah promote main-x7', 'This is the right moment.']],
  run: (call) =>
    runUntilPublished(call, {
      verb: 'promote',
      doing: 'Promoting session',
      send: (bus, session, signal) => ask(bus, 'session.promote', { session }, { signal }),
      steps: ['recover'],
      needsStep: () => true,
    }),
})
