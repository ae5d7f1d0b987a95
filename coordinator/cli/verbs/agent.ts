/** `howdah agent ACTION`: the agent of a host, from its installation to its removal. The table of the actions. */
import { defineGroup } from '../verb-group.ts'

export const agent = defineGroup({
  name: 'agent',
  summary: 'install agents, and look after them on their hosts',
  description: [
    'Each ACTION has a page of its own: "howdah help agent request".',
    'The actions of the host run on the machine of the agent, as root; all are safe to repeat.',
  ],
  actions: {
    check: async () => (await import('./agent/check.ts')).check,
    request: async () => (await import('./agent/request.ts')).request,
    accept: async () => (await import('./agent/accept.ts')).accept,
  },
})
