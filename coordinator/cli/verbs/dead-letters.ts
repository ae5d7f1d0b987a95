/** `howdah dead-letters ACTION`: messages that could not be handled. The table of the actions. */
import { defineGroup } from '../verb-group.ts'

export const deadLetters = defineGroup({
  name: 'dead-letters',
  summary: 'look after messages that could not be handled',
  description: [
    'What breaks the contract, and what could not be handled however often it was tried, is copied to the queue ' +
      'howdah.dead-letters with the reason; its sender was answered if it asked for an answer.',
    'Each ACTION has a page of its own: "howdah help dead-letters retry". All need a user that may read that queue: an ' +
      'operator ("howdah broker setup --operator NAME"). They work without a coordinator, one at a time on a broker.',
  ],
  actions: {
    list: async () => (await import('./dead-letters/list.ts')).list,
    show: async () => (await import('./dead-letters/show.ts')).show,
    retry: async () => (await import('./dead-letters/retry.ts')).retry,
    drop: async () => (await import('./dead-letters/drop.ts')).drop,
  },
})
