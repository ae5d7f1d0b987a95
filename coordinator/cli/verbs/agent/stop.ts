/** `howdah agent stop`: stop this host's agents. */
import { defineVerb } from '../../verb.ts'
import {
  type AnyKindOptions,
  anyKindOption,
  hostExitStatus,
  onEachAgent,
  reportOption,
} from './host-action.ts'

export const stop = defineVerb<AnyKindOptions>({
  name: 'agent stop',
  summary: "stop this host's agents",
  description: [
    'Stops the agents in order. Published instances stay published, and the agents find them again when they start.',
  ],
  options: [anyKindOption, reportOption],
  exitStatus: hostExitStatus,
  environment: [],
  files: [],
  examples: [['howdah agent stop --kind target', 'The target agent.']],
  run: (call) =>
    onEachAgent(call, 'stopped', async (supervisor, kind) => {
      const isRunning = (await supervisor.process(kind)) !== undefined
      await supervisor.stop(kind)
      return isRunning
    }),
})
