/** `howdah authority ACTION`: the authority whose certificates a fleet trusts. The table of the actions. */
import { defineGroup } from '../verb-group.ts'

export const authority = defineGroup({
  name: 'authority',
  summary: 'make the authority of a fleet, and certificates that it signs',
  description: [
    'A fleet trusts one private authority, which is two files of a directory: ca.pem, which everybody may read, and ' +
      'ca.key, with which certificates are signed. Anybody who has ca.key can be anybody in the fleet.',
    'The coordinator that is given the directory (authority.directory) signs the certificates of agents. Several ' +
      'coordinators have copies of both files, which never change.',
  ],
  actions: {
    init: async () => (await import('./authority/init.ts')).init,
    show: async () => (await import('./authority/show.ts')).show,
    issue: async () => (await import('./authority/issue.ts')).issue,
  },
})
