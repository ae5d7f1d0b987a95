/** `howdah agent restart`: restart this host's agents. */
import { defineVerb } from '../../verb.ts'
import {
  type AnyKindOptions,
  anyKindOption,
  hostExitStatus,
  onEachAgent,
  reportOption,
} from './host-action.ts'

export const restart = defineVerb<AnyKindOptions>({
  name: 'agent restart',
  summary: "restart this host's agents",
  description: ['Stops and starts the agents. Published instances stay published.'],
  options: [anyKindOption, reportOption],
  exitStatus: hostExitStatus,
  environment: [],
  files: [],
  examples: [['howdah agent restart', 'After a change of a configuration.']],
  run: (call) =>
    onEachAgent(call, 'restarted', async (supervisor, kind) => {
      await supervisor.stop(kind)
      await supervisor.start(kind)
      return true
    }),
})
