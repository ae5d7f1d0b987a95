/** `howdah promote`: ends a paused recovery. */
import type { WaitingOptions } from '../options.ts'
import { sendCommand } from '../request.ts'
import { runUntilPublished, untilPublished } from '../until-published.ts'
import { defineVerb } from '../verb.ts'

export const promote = defineVerb<WaitingOptions>({
  name: 'promote',
  summary: 'end a paused recovery: the instance becomes writable',
  description: [
    'Applies to a session that was published with --after-recovery pause and is paused, read-only, at its ' +
      'recovery target. Recovery ends there, and the instance becomes writable. This cannot be undone; "howdah ' +
      'republish" starts again from the backup.',
  ],
  ...untilPublished,
  examples: [['howdah promote main-x7', 'Make the instance writable in its present state.']],
  run: (call) =>
    runUntilPublished(call, {
      verb: 'promote',
      doing: 'Promoting session',
      send: (bus, session, options) => sendCommand(bus, 'session.promote', { session }, options),
      steps: ['recover'],
      needsStep: () => true,
    }),
})
