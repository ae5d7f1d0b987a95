/** `howdah agent ACTION`: the agent of a host, from its installation to its removal. The table of the actions. */
import { defineGroup } from '../verb-group.ts'

export const agent = defineGroup({
  name: 'agent',
  summary: 'install agents, and look after them on their hosts',
  description: [
    'Each ACTION has a page of its own: "howdah help agent request".',
    "From an operator's machine, over SSH: check, install, upgrade, rollback and uninstall; by a command to the " +
      'coordinator: invite, certify and revoke. On the machine of the agent, as root: join and those after it. All are ' +
      'safe to repeat.',
  ],
  actions: {
    check: async () => (await import('./agent/check.ts')).check,
    install: async () => (await import('./agent/install.ts')).install,
    upgrade: async () => (await import('./agent/upgrade.ts')).upgrade,
    rollback: async () => (await import('./agent/rollback.ts')).rollback,
    uninstall: async () => (await import('./agent/uninstall.ts')).uninstall,
    invite: async () => (await import('./agent/invite.ts')).invite,
    certify: async () => (await import('./agent/certify.ts')).certify,
    revoke: async () => (await import('./agent/revoke.ts')).revoke,
    join: async () => (await import('./agent/join.ts')).join,
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
