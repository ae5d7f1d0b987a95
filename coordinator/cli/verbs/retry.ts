/** `howdah retry`: resumes a session that is disrupted, or was unpublished with its changes kept. */
import type { WaitingOptions } from '../options.ts'
import { sendCommand } from '../request.ts'
import { isOver } from '../session-progress.ts'
import { runUntilPublished, untilPublished } from '../until-published.ts'
import { defineVerb } from '../verb.ts'

export const retry = defineVerb<WaitingOptions>({
  name: 'retry',
  summary: 'resume a disrupted session, or one whose changes were kept',
  description: [
    'A disrupted session is retried automatically for a while; then it waits until the cause has been fixed and ' +
      'an operator retries it. This resumes it at once, with all its changes, even if its next automatic retry is ' +
      'due later. "howdah show" shows the reason and whether the session waits.',
    'Also resumes a session that was unpublished with --keep-cache: the same backup is published again, with ' +
      'the changes of the session.',
  ],
  ...untilPublished,
  examples: [
    ['howdah retry main-x7', 'Resume it after the cause was fixed.'],
    [
      'howdah unpublish main-x7 --keep-cache; reboot; howdah retry main-x7',
      'Publish it again, with its changes, after a reboot.',
    ],
  ],
  run: (call) =>
    runUntilPublished(call, {
      verb: 'retry',
      doing: 'Retrying session',
      send: (bus, session, options) => sendCommand(bus, 'session.retry', { session }, options),
      needsStep: isOver,
    }),
})
