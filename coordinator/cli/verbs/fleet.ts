/** `howdah fleet ACTION`: the machine at the centre of a fleet. The table of the actions. */
import { defineGroup } from '../verb-group.ts'

export const fleet = defineGroup({
  name: 'fleet',
  summary: 'make the centre of a fleet: broker, authority, coordinator',
  description: [
    'A fleet is a broker, a coordinator, and agents on servers. This makes the first two from a RabbitMQ of the ' +
      'distribution; "howdah agent install" and "howdah agent join" bring the agents.',
  ],
  actions: {
    init: async () => (await import('./fleet/init.ts')).init,
  },
})
