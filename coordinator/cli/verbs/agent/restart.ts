/** `howdah agent restart`: restart this host's agents. */
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

export const restart = defineVerb<AnyKindOptions>({
  name: 'agent restart',
  summary: "restart this host's agents",
  description: ['Stops and starts the agents. Published instances stay published.'],
  options: [anyKindOption, reportOption],
  exitStatus: hostExitStatus,
  environment: [],
  files: [],
  examples: [['howdah agent restart', 'After a change of a configuration.']],
  run: runRestart,
})

async function runRestart({ context, options: { kind, json } }: Call<AnyKindOptions>): Promise<number> {
  const host = openHost()
  const report: HostReport = { changed: [], kept: [] }
  for (const one of chosenKinds(host, kind)) {
    await host.supervisor.stop(one)
    await host.supervisor.start(one)
    note(report, `${one} agent: restarted`, true)
  }
  printReport(context, report, json)
  return 0
}
