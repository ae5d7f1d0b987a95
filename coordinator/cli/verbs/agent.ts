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
    invite: async () => (await import('./agent/invite.ts')).invite,
    join: async () => (await import('./agent/join.ts')).join,
    check: async () => (await import('./agent/check.ts')).check,
    setup: async () => (await import('./agent/setup.ts')).setup,
    request: async () => (await import('./agent/request.ts')).request,
    accept: async () => (await import('./agent/accept.ts')).accept,
    start: async () => (await import('./agent/start.ts')).start,
    stop: async () => (await import('./agent/stop.ts')).stop,
    restart: async () => (await import('./agent/restart.ts')).restart,
    status: async () => (await import('./agent/status.ts')).status,
    switch: async () => (await import('./agent/switch.ts')).switchTo,
    remove: async () => (await import('./agent/remove.ts')).remove,
  },
})
