/** `howdah agent switch`: makes another version that is installed here the current one. */
import { switchVersion } from '../../../fleet/host/switch-version.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { hostExitStatus, openHost, printReport, reportOption } from './host-action.ts'

export const switchTo = defineVerb<{ readonly json?: true }>({
  name: 'agent switch',
  summary: 'make another installed version the current one',
  description: [
    "Makes VERSION the current one and restarts this host's agents in it. Published instances stay up: their mount " +
      'processes go on in the version that they were started with. The version before is kept for the way back, which is ' +
      'the same command; others are removed as soon as no process runs them.',
    'A configuration that VERSION does not take, such as a key of a newer release on the way back, is refused before ' +
      'anything is changed.',
  ],
  arguments: [{ name: 'VERSION', required: true, description: 'The name of a directory in /opt/howdah.' }],
  options: [reportOption],
  exitStatus: hostExitStatus,
  environment: [],
  files: [['/opt/howdah/current, /opt/howdah/previous', 'Links to the directories of these versions.']],
  examples: [['/opt/howdah/1.2.0/bin/howdah agent switch 1.2.0', 'By the new version itself.']],
  run: runSwitch,
})

async function runSwitch({ context, options, argument }: Call<{ readonly json?: true }>): Promise<number> {
  const { paths, supervisor } = openHost()
  printReport(context, await switchVersion(paths, supervisor, argument), options.json)
  return 0
}
