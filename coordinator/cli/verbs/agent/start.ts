/** `howdah agent start`: start this host's agents. */
import { defineVerb } from '../../verb.ts'
import {
  type AnyKindOptions,
  anyKindOption,
  hostExitStatus,
  onEachAgent,
  reportOption,
  startAgent,
} from './host-action.ts'

export const start = defineVerb<AnyKindOptions>({
  name: 'agent start',
  summary: "start this host's agents",
  description: [
    'Starts the agents that do not run, through what supervises them: systemd, or howdah-supervise where there is none. They start at boot by themselves.',
  ],
  options: [anyKindOption, reportOption],
  exitStatus: hostExitStatus,
  environment: [],
  files: [],
  examples: [['howdah agent start', 'All that are set up here.']],
  run: (call) => onEachAgent(call, 'started', startAgent),
})
