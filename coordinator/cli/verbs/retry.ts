/** `howdah retry`: lets a session go on that does not go on by itself. */
import type { WaitingOptions } from '../options.ts'
import { ask } from '../request.ts'
import { isOver } from '../session-progress.ts'
import { runUntilPublished, untilPublished } from '../until-published.ts'
import { defineVerb } from '../verb.ts'

export const retry = defineVerb<WaitingOptions>({
  name: 'retry',
  summary: 'let a session go on that does not go on by itself',
  description: [
    'A disrupted session is tried again by itself for a while; then it waits for somebody who has mended the cause. ' +
      'This lets it go on at once, also one that would try again later, with everything that was changed in it. ' +
      '"howdah show" tells the reason, and whether it waits.',
    'Also brings back a session that was unpublished with --keep-cache: it is published again from the same backup, ' +
      'with its changes.',
  ],
  ...untilPublished,
  examples: [
    ['howdah retry main-x7', 'After the disk was mended.'],
    ['howdah unpublish main-x7 --keep-cache; reboot; howdah retry main-x7', 'With its changes, later.'],
  ],
  run: (call) =>
    runUntilPublished(call, {
      verb: 'retry',
      doing: 'Trying again: session',
      send: (bus, session, signal) => ask(bus, 'session.retry', { session }, { signal }),
      needsStep: isOver,
    }),
})
