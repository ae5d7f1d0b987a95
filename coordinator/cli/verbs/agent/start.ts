/** `howdah agent start`: start this host's agents. */
import { type HostReport, note } from '../../../fleet/host/report.ts'
import { type Call, defineVerb } from '../../verb.ts'
import {
  type AnyKindOptions,
  anyKindOption,
  chosenKinds,
  hostExitStatus,
  openHost,
  printReport,
  reportOption,
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
  run: runStart,
})

async function runStart({ context, options: { kind, json } }: Call<AnyKindOptions>): Promise<number> {
  const host = openHost()
  const report: HostReport = { changed: [], kept: [] }
  for (const one of chosenKinds(host, kind)) {
    const isRunning = (await host.supervisor.process(one)) !== undefined
    await host.supervisor.start(one)
    note(report, `${one} agent: started`, !isRunning)
  }
  printReport(context, report, json)
  return 0
}
